"""Metadata of the data sets: class names, colours, class weights, normalisation."""

from __future__ import annotations

import dataclasses
from typing import Any

from dropclass_jax.data import scenes

IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)


@dataclasses.dataclass(frozen=True)
class DatasetInfo:
    """Metadata of a data set.

    Attributes:
      name: the name under which ``dropclass_jax.data.load`` finds the set.
      classes: K class names; a label value is an index into them.
      colors: K RGB colours, 0..255, to display labels with.
      ignore_label: the label value of pixels that are neither trained on nor scored.
      class_weights: K weights for the cross-entropy, or None if the set has no customary ones.
      train_pixels: labelled pixels of each class in the official training split, or None if they
        have to be counted.
      mean: RGB mean that images are normalised with, on the 0..1 scale.
      std: RGB standard deviation, on the 0..1 scale.
      window: for 16-bit images, the two values that are mapped to 0 and 255, or ``'image'`` if
        each image has its own; None for 8-bit images, and for sets that did not record it. See
        ``windows.to_8bit``.
    """

    name: str
    classes: tuple[str, ...]
    colors: tuple[tuple[int, int, int], ...]
    ignore_label: int = 255
    class_weights: tuple[float, ...] | None = None
    train_pixels: tuple[int, ...] | None = None
    mean: tuple[float, float, float] = IMAGENET_MEAN
    std: tuple[float, float, float] = IMAGENET_STD
    window: str | tuple[int, int] | None = None

    @property
    def num_classes(self) -> int:
        """K, the number of classes that are trained and scored."""
        return len(self.classes)


def class_list(info: DatasetInfo) -> list[dict[str, Any]]:
    """The ``name`` and ``color`` of each class as JSON, in the order of the labels."""
    return [
        {"name": name, "color": color}
        for name, color in zip(info.classes, info.colors, strict=True)
    ]


def counted_class_list(info: DatasetInfo) -> list[dict[str, Any]]:
    """``class_list`` with each class's ``train_pixels`` and ``train_pixel_share``."""
    total = max(sum(info.train_pixels), 1)
    return [
        {**entry, "train_pixels": pixels, "train_pixel_share": pixels / total}
        for entry, pixels in zip(class_list(info), info.train_pixels, strict=True)
    ]


def _from_table(name: str, table: dict[str, tuple[int, int, int]], **facts) -> DatasetInfo:
    return DatasetInfo(name, tuple(table), tuple(table.values()), **facts)


def distinct_colors(number: int) -> tuple[tuple[int, int, int], ...]:
    """The first colours of Pascal VOC's palette, which are easy to tell apart; black is the first.

    Bit i of a channel's value is bit ``3 (7 - i) + channel`` of the class's number (VOC
    development kit, ``VOClabelcolormap``).

    >>> distinct_colors(4)
    ((0, 0, 0), (128, 0, 0), (0, 128, 0), (128, 128, 0))
    """
    return tuple(
        tuple(
            sum((index >> 3 * (7 - bit) + channel & 1) << bit for bit in range(8))
            for channel in range(3)
        )
        for index in range(number)
    )


# The 11 classes and colours of the SegNet tutorial (Badrinarayanan et al., TPAMI 2017). Its label
# 11, void, becomes `ignore_label` when the set is prepared.
CAMVID = _from_table(
    "camvid",
    {
        "sky": (128, 128, 128),
        "building": (128, 0, 0),
        "pole": (192, 192, 128),
        "road": (128, 64, 128),
        "sidewalk": (60, 40, 222),
        "tree": (128, 128, 0),
        "sign": (192, 128, 128),
        "fence": (64, 64, 128),
        "car": (64, 0, 128),
        "pedestrian": (64, 64, 0),
        "bicyclist": (0, 128, 192),
    },
)

STREETS = DatasetInfo("streets", tuple(scenes.CLASSES), tuple(map(tuple, scenes.COLORS)))

# The 19 evaluated classes (Cordts et al., CVPR 2016) by train id. The weights are those HRNet's
# segmentation code trains with (Wang et al., TPAMI 2020), which the DropClass paper follows.
CITYSCAPES = _from_table(
    "cityscapes",
    {
        "road": (128, 64, 128),
        "sidewalk": (244, 35, 232),
        "building": (70, 70, 70),
        "wall": (102, 102, 156),
        "fence": (190, 153, 153),
        "pole": (153, 153, 153),
        "traffic light": (250, 170, 30),
        "traffic sign": (220, 220, 0),
        "vegetation": (107, 142, 35),
        "terrain": (152, 251, 152),
        "sky": (70, 130, 180),
        "person": (220, 20, 60),
        "rider": (255, 0, 0),
        "car": (0, 0, 142),
        "truck": (0, 0, 70),
        "bus": (0, 60, 100),
        "train": (0, 80, 100),
        "motorcycle": (0, 0, 230),
        "bicycle": (119, 11, 32),
    },
    class_weights=(
        *(0.8373, 0.918, 0.866, 1.0345, 1.0166, 0.9969, 0.9754, 1.0489, 0.8786, 1.0023),
        *(0.9539, 0.9843, 1.1116, 0.9037, 1.0865, 1.0955, 1.0865, 1.1529, 1.0507),
    ),
    # Counted over the 2,975 fine label maps; the other 715,747,311 pixels are ignored ones.
    train_pixels=(
        *(2_036_416_525, 336_090_793, 1_260_636_120, 36_199_498, 48_454_166, 67_789_506),
        *(11_477_088, 30_448_193, 879_783_988, 63_949_536, 221_979_646, 67_326_424, 7_463_162),
        *(386_328_286, 14_772_328, 12_990_290, 12_863_955, 5_449_152, 22_861_233),
    ),
)

# Background and the 20 classes of Everingham et al., IJCV 2010, by their values in the label files.
_VOC_CLASSES = (
    *("background", "aeroplane", "bicycle", "bird", "boat", "bottle", "bus", "car", "cat", "chair"),
    *("cow", "dining table", "dog", "horse", "motorbike", "person", "potted plant", "sheep"),
    *("sofa", "train", "tv monitor"),
)
VOC = DatasetInfo("voc", _VOC_CLASSES, distinct_colors(len(_VOC_CLASSES)))
