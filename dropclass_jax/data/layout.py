"""Where a folder keeps its images and masks, and which belong together.

A folder is arranged in one of three ways; the names in ``IMAGES`` and ``MASKS`` will do as well:

    images/train/a.jpg  masks/train/a.png  images/val/b.jpg ...     a folder a split
    train/images/a.jpg  train/masks/a.png  val/images/b.jpg ...     the other way round
    images/a.jpg        masks/a.png        images/b.jpg ...         no splits: some become val

A mask is called as its image, in the same subfolder. A split's folder may carry a number, as
``train2017`` does.
"""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from pathlib import Path, PurePosixPath
from typing import NamedTuple

from dropclass_jax.data import files
from dropclass_jax.data.files import File
from dropclass_jax.data.pairs import Pair
from dropclass_jax.errors import UserError

IMAGES = ("images", "image", "imgs", "img", "img_dir")
MASKS = ("masks", "mask", "labels", "label", "annotations", "ann_dir", "gt")
SPLITS = {
    **{"train": "train", "training": "train"},
    **{"val": "val", "valid": "val", "validation": "val"},
    **{"test": "test", "testing": "test"},
}
_NUMBERED = re.compile(r"([a-z]+)[-_ ]?\d+")  # train2017
# Whose exports are read as they are, by the room of that name.
TOOLS = "CVAT, Roboflow, COCO JSON, labelme, Label Studio, Supervisely, Pascal VOC or ADE20K"
SUFFIXES = (".png", ".jpg", ".jpeg", ".tif", ".tiff", ".webp", ".bmp")
MASK_SUFFIXES = (*SUFFIXES, ".gif", ".pgm", ".pnm")
# A mask may be called as its image, or so with one of these behind it.
MASK_ENDING = re.compile("[_-](mask|masks|label|labels|labelIds|gt|seg|segmentation)$")


class Folders(NamedTuple):
    """Two folders of one split."""

    images: Path
    masks: Path


class Found(NamedTuple):
    """What one split holds.

    Attributes:
      pairs: in the order of their names.
      faults: images without a mask and the like, a line each.
      notes: files that are neither, a line a folder.
    """

    pairs: list[Pair]
    faults: list[str]
    notes: list[str]


def is_here(root: Path) -> bool:
    """Whether a folder is arranged so, with pictures where the masks should be.

    An annotation tool may call its folders the same and keep JSON files there.
    """
    whole = _subfolders(root)
    if whole is not None:
        return _has_masks(whole.masks)
    inside = (_subfolders(root / name) for name in _folder_names(root))
    return any(_has_masks(folders.masks) for folders in inside if folders is not None)


def _has_masks(folder: Path) -> bool:
    if next(folder.glob("*.json"), None) is not None:
        return False
    return _has_picture(folder)


def _has_picture(folder: Path) -> bool:
    walk = os.walk(folder, followlinks=True)
    return any(name.lower().endswith(MASK_SUFFIXES) for _, _, names in walk for name in names)


def find_splits(root: Path) -> tuple[dict[str, Folders], list[str]]:
    """The folders of each split; one of the name ``""`` where there are no splits.

    Returns:
      The folders by split, ``train`` and ``val`` first, and notes of folders that are left out.

    Raises:
      UserError: the folder has none of the layouts.
    """
    whole = _subfolders(root)
    if whole is not None:
        names = _folder_names(whole.images)
        _check_split_names(whole.images, names)
        if not any(split_name(name) == "train" for name in names):
            return {"": whole}, []
        of_masks = {split_name(name): name for name in _folder_names(whole.masks)}
        splits = {
            name: Folders(whole.images / name, whole.masks / of_masks.get(split_name(name), name))
            for name in names
        }
    else:
        inside = {name: _subfolders(root / name) for name in _folder_names(root)}
        splits = {name: folders for name, folders in inside.items() if folders is not None}
        _check_split_names(root, list(splits))
        if not any(split_name(name) == "train" for name in splits):
            raise UserError(
                f"{root} holds neither images/ and masks/ nor train/images and train/masks, and is "
                f"no export of {TOOLS}: arrange it in one of these ways"
            )
    notes = [f"{f.images} has no masks {f.masks}: left out" for f in splits.values()
             if not f.masks.is_dir()]  # fmt: skip
    if whole is not None and (loose := _pictures_in(whole.images)):
        more = f" and {len(loose) - 1} more" if loose[1:] else ""
        notes.append(f"{whole.images}: left out, as in no split's folder: {loose[0]}{more}")
    kept = {split_name(name): f for name, f in splits.items() if f.masks.is_dir()}
    if "train" not in kept:
        (lonely,) = [folders for name, folders in splits.items() if split_name(name) == "train"]
        raise UserError(f"{lonely.images} has no masks {lonely.masks}: add them")
    first = [split for split in ("train", "val") if split in kept]
    return {split: kept[split] for split in dict.fromkeys([*first, *sorted(kept)])}, notes


def _pictures_in(folder: Path) -> list[str]:
    """The names of the pictures in a folder itself."""
    names = (p.name for p in folder.iterdir() if p.is_file() and not p.name.startswith("."))
    return sorted(files.shown(name) for name in names if name.lower().endswith(SUFFIXES))


def _folder_names(root: Path) -> list[str]:
    return sorted(p.name for p in root.iterdir() if p.is_dir() and not p.name.startswith("."))


def _subfolders(root: Path) -> Folders | None:
    """``root``'s folder of images and its folder of masks, if it has both.

    Raises:
      UserError: it has several of either, with pictures.
    """
    images, masks = _one_of(root, IMAGES), _one_of(root, MASKS)
    return Folders(images, masks) if images and masks else None


def _one_of(root: Path, names: Sequence[str]) -> Path | None:
    """The folder of one of the names; of several the one with pictures (YOLO's labels are text)."""
    there = [root / name for name in names if (root / name).is_dir()]
    if len(there) < 2:
        return there[0] if there else None
    full = [folder for folder in there if _has_picture(folder)]
    if len(full) > 1:
        raise UserError(
            f"{root} has {full[0].name}/ and {full[1].name}/, both with pictures: rename the one "
            "that is not to be read"
        )
    return (full or there)[0]


def split_name(folder: str) -> str:
    """The split that a folder's name stands for: ``train`` for ``training`` and ``train2017``."""
    numbered = _NUMBERED.fullmatch(folder.lower())
    return SPLITS.get(numbered.group(1) if numbered else folder.lower(), folder)


def _check_split_names(root: Path, names: Sequence[str]) -> None:
    """Refuse two folders of one split, and folders that might be splits under other names."""
    by_split: dict[str, str] = {}
    for name in names:
        if (split := split_name(name)) in by_split:
            raise UserError(
                f"{root} has the folders {by_split[split]} and {name}, both of the split {split}: "
                "put their files into one"
            )
        by_split[split] = name
    if "train" in by_split:
        return
    if others := [name for split, name in by_split.items() if split in SPLITS.values()]:
        raise UserError(f"{root} has a folder {others[0]} and none for train: add it")
    alike = [next((n for n in names if n.lower().startswith(s)), "") for s in ("train", "val")]
    if all(alike):
        raise UserError(
            f"{root} has the folders {alike[0]} and {alike[1]}: if they are splits, call them "
            "train and val; if not, call them otherwise"
        )


def pair_up(folders: Folders) -> Found:
    """Every image with the mask of the same name, in the same subfolder."""
    images, image_faults, notes = _by_name(folders.images, "images")
    masks, mask_faults, mask_notes = _by_name(folders.masks, "masks")
    for name in [name for name in masks if name not in images]:
        stem = MASK_ENDING.sub("", name)
        if stem in images and stem not in masks:
            masks[stem] = masks.pop(name)
    pairs = [
        Pair(name, file, masks[name]) for name, file in sorted(images.items()) if name in masks
    ]
    faults = [
        f"{file.where} has no mask {folders.masks / name}.*: add it or remove the image"
        for name, file in sorted(images.items())
        if name not in masks
    ] + [
        f"{file.where} has no image {folders.images / name}.*: add it or remove the mask"
        for name, file in sorted(masks.items())
        if name not in images
    ]
    return Found(pairs, image_faults + mask_faults + faults, notes + mask_notes)


def _by_name(folder: Path, kind: str) -> tuple[dict[str, File], list[str], list[str]]:
    """Images by their names without suffix, faults of doubled names, notes of other files."""
    by_name: dict[str, File] = {}
    faults, strays = [], []
    suffixes = SUFFIXES if kind == "images" else MASK_SUFFIXES
    for path, file in files.folder(folder).items():
        if not path.lower().endswith(suffixes):
            strays.append(files.shown(path))
            continue
        name = files.key(str(PurePosixPath(path).with_suffix("")))
        if name in by_name:
            faults.append(f"{file.where} and {by_name[name].where} have one name: remove one")
        else:
            by_name[name] = file
    notes = []
    if strays:
        more = f" and {len(strays) - 1} more" if strays[1:] else ""
        notes.append(f"{folder}: left out, as no {kind}: {strays[0]}{more}")
    return by_name, faults, notes
