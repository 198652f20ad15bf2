"""A contact sheet of augmented training samples with their labels drawn over them.

    python -m dropclass_jax.data show --name camvid --dir CAMVID --crop 180 240 --jitter

The samples are the first of the stream that training with the same seed, crop and options reads;
the options are those of a config's ``augment`` and ``data.sampling``, under the same names.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from pathlib import Path
from typing import Any

from dropclass_jax import data
from dropclass_jax.data import crops, pipeline, sampling, transforms
from dropclass_jax.data.augment import Augmentation
from dropclass_jax.data.crops import CropRule
from dropclass_jax.data.info import class_list
from dropclass_jax.data.photometric import USUAL, JitterRange
from dropclass_jax.data_tools import arguments
from dropclass_jax.errors import UserError
from dropclass_jax.reporting.pictures import contact_sheet

MOST = 100  # samples on one sheet


def first_samples(
    dataset: data.Dataset,
    split: str,
    count: int,
    augmentation: Augmentation,
    class_uniform: float = 0.0,
    seed: int = 0,
) -> list[dict[str, Any]]:
    """The first samples of a training stream."""
    source = dataset.splits[split]
    batches = pipeline.train_iterator(
        source,
        seed=seed,
        batch_size=count,
        augmentation=augmentation,
        sampler=sampling.class_uniform(source.class_pixels, class_uniform),
        num_threads=0,
    )
    batch = next(batches)
    return [
        {
            "image": batch["image"][i],
            "label": batch["label"][i],
            "id": str(batch["id"][i]),
        }
        for i in range(count)
    ]


def save_sheet(
    dataset: data.Dataset,
    out: Path,
    *,
    split: str,
    count: int,
    augmentation: Augmentation,
    class_uniform: float = 0.0,
    seed: int = 0,
) -> None:
    """Write the first samples of a training stream as one PNG.

    Args:
      dataset: the set.
      out: the file; its folder is made if it is missing.
      split: one of the set's splits.
      count: how many samples.
      augmentation: what may happen to them.
      class_uniform: share of examples drawn by class; see ``sampling.class_uniform``.
      seed: of the stream.

    Raises:
      UserError: a value that is out of range, or a file that cannot be written.
    """
    samples = first_samples(dataset, split, count, augmentation, class_uniform, seed)
    height, width = augmentation.crop
    title = (
        f"{dataset.info.name}, {split}: what training sees with seed {seed}, "
        f"crops of {height} x {width}"
    )
    figure = contact_sheet(samples, class_list(dataset.info), title, dataset.info.ignore_label)
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        figure.savefig(out, format="png", dpi=150)
    except OSError as error:
        raise UserError(f"cannot write {out}: {error.strerror}; choose another --out") from None


def parse(argv: list[str]) -> argparse.Namespace:
    """The options of the command.

    Raises:
      UserError: one that is unknown or out of range.
    """
    parser = arguments.subparser("show", __doc__)
    add = parser.add_argument
    add("--split", default="train", help="default: train")
    add("--count", type=int, default=12, help=f"samples, at most {MOST}; default: 12")
    add("--seed", type=int, default=0, help="default: 0")
    add("--out", type=Path, help="the PNG to write; default: show-NAME.png")
    add("--crop", type=int, nargs=2, metavar=("H", "W"), help="default: the largest image")
    add("--scale", type=float, nargs=2, default=(0.5, 2.1), metavar=("LOW", "HIGH"))
    add("--scale-step", type=float, default=0.1, metavar="STEP")
    add("--no-flip", action="store_true")
    usual = ", ".join(f"{name} {value:g}" for name, value in USUAL._asdict().items())
    add("--jitter", action="store_true", help=f"the usual: {usual}")
    add("--rare-crop", type=float, default=0.0, metavar="P", help="augment.rare_crop")
    add("--cat-max-ratio", type=float, default=1.0, metavar="R", help="augment.cat_max_ratio")
    add("--class-uniform", type=float, default=0.0, metavar="S", help="data.sampling.class_uniform")
    args = parser.parse_args(argv)
    if not 1 <= args.count <= MOST:
        raise UserError(f"--count {args.count}: want 1 to {MOST}")
    return args


def main(dataset_loader: Callable[[], data.Dataset], argv: list[str]) -> int:
    """The command; see the module's docstring.

    Args:
      dataset_loader: loads the set.
      argv: what ``show`` itself has to parse.

    Raises:
      UserError: anything that the user can mend.
    """
    args = parse(argv)
    dataset = dataset_loader()
    arguments.check_split(dataset, args.split)
    augmentation = Augmentation(
        crop=tuple(args.crop or pipeline.largest_shape(dataset.splits[args.split])),
        scales=transforms.scales(args.scale, args.scale_step),
        flip=not args.no_flip,
        jitter=USUAL if args.jitter else JitterRange(),
        crop_rule=CropRule(
            args.rare_crop,
            crops.inverse_odds(dataset.class_pixels[args.split]),
            args.cat_max_ratio,
        ),
    )
    out = args.out or Path(f"show-{dataset.info.name}.png")
    save_sheet(
        dataset,
        out,
        split=args.split,
        count=args.count,
        augmentation=augmentation,
        class_uniform=args.class_uniform,
        seed=args.seed,
    )
    print(f"written: {out}")
    return 0
