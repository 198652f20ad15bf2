"""Plausible run directories, for the tests of the report and for looking at it.

`python tests/report_fixture.py DIR` writes four runs under DIR; each takes
`python -m dropclass_jax.report --workdir=DIR/NAME`.
"""

from __future__ import annotations

import json
import pathlib
import sys

import numpy as np

# name: (RGB, share of the training pixels in %)
STREETS = {
    "road": ((128, 64, 128), 36.9),
    "sidewalk": ((244, 35, 232), 6.1),
    "building": ((70, 70, 70), 22.8),
    "wall": ((102, 102, 156), 0.66),
    "fence": ((190, 153, 153), 0.88),
    "pole": ((153, 153, 153), 1.23),
    "traffic light": ((250, 170, 30), 0.21),
    "traffic sign": ((220, 220, 0), 0.55),
    "vegetation": ((107, 142, 35), 15.9),
    "terrain": ((152, 251, 152), 1.16),
    "sky": ((70, 130, 180), 4.0),
    "person": ((220, 20, 60), 1.22),
    "rider": ((255, 0, 0), 0.14),
    "car": ((0, 0, 142), 7.0),
    "truck": ((0, 0, 70), 0.27),
    "bus": ((0, 60, 100), 0.24),
    "train": ((0, 80, 100), 0.23),
    "motorcycle": ((0, 0, 230), 0.1),
    "bicycle": ((119, 11, 32), 0.41),
}
CAMVID = {
    "Sky": ((128, 128, 128), 16.7),
    "Building": ((128, 0, 0), 23.6),
    "Pole": ((192, 192, 128), 1.0),
    "Road": ((128, 64, 128), 28.9),
    "Pavement": ((60, 40, 222), 6.6),
    "Tree": ((128, 128, 0), 11.5),
    "SignSymbol": ((192, 128, 128), 1.1),
    "Fence": ((64, 64, 128), 1.2),
    "Car": ((64, 0, 128), 6.1),
    "Pedestrian": ((64, 64, 0), 0.6),
    "Bicyclist": ((0, 128, 192), 0.3),
}


def classes_of(palette: dict, train_pixels: int = 10**8) -> list[dict]:
    total = sum(share for _, share in palette.values())
    return [
        {
            "name": name,
            "color": list(color),
            "train_pixels": round(train_pixels * share / total),
            "train_pixel_share": share / total,
        }
        for name, (color, share) in palette.items()
    ]


def entry_of(confusion: np.ndarray, split: str, head: str, images: int = 96) -> dict:
    """One element of `results`, every score from the confusion matrix (rows are labels)."""
    confusion = np.asarray(confusion, np.int64)
    label, prediction, right = confusion.sum(1), confusion.sum(0), confusion.diagonal()
    union = label + prediction - right

    def ratio(a, b):
        return [float(x / y) if y else None for x, y in zip(a, b, strict=True)]

    def mean(values):
        return float(np.mean([x for x in values if x is not None]))

    iou, accuracy = ratio(right, union), ratio(right, label)
    shares = label / label.sum()
    return {
        "split": split,
        "head": head,
        "inference": "whole",
        "images": images,
        "mean_iou": mean(iou),
        "mean_boundary_iou": 0.6 * mean(iou),
        "pixel_accuracy": float(right.sum() / label.sum()),
        "mean_accuracy": mean(accuracy),
        "frequency_weighted_iou": float(
            sum(s * (x or 0) for s, x in zip(shares, iou, strict=True))
        ),
        "iou": iou,
        "accuracy": accuracy,
        "precision": ratio(right, prediction),
        "f1": ratio(2 * right, label + prediction),
        "boundary_iou": [None if x is None else 0.6 * x for x in iou],  # in want of a map
        "pixels": label.tolist(),
        "confusion": confusion.tolist(),
    }


def confusion_of(classes: list[dict], skill: float, seed: int, missing=(), mute=()) -> np.ndarray:
    """A confusion matrix whose rare classes score less; `mute` classes are never predicted."""
    rng = np.random.default_rng(seed)
    shares = np.array([about["train_pixel_share"] for about in classes])
    pixels = 3e7 * shares * rng.uniform(0.7, 1.4, len(shares))
    rarity = np.log10(shares) - np.log10(shares.max())
    accuracy = np.clip(skill + 0.24 * rarity + 0.08 * rng.standard_normal(len(shares)), 0.02, 0.97)
    confusion = np.zeros((len(shares), len(shares)))
    for k, count in enumerate(pixels):
        pull = shares**0.6 * rng.exponential(size=len(shares)) ** 2
        pull[[k, *mute]] = 0
        confusion[k] = count * (1 - accuracy[k]) * pull / pull.sum()
        confusion[k, k] = count * accuracy[k]
        if k in mute:
            confusion[k] = count * pull / pull.sum()
    pixels[list(missing)] = 0
    confusion[list(missing)] = 0
    confusion[:, list(missing)] = 0
    confusion = confusion.round().astype(np.int64)
    for k, row in enumerate(confusion):  # labelled alike for every head
        row[row.argmax()] += round(pixels[k]) - row.sum()
    return confusion


def scene(classes: list[dict], seed: int, height: int = 128, width: int = 256):
    """A crude picture of boxes with its label and an imperfect prediction."""
    rng = np.random.default_rng(seed)
    names = [about["name"].lower() for about in classes]
    label = np.full((height, width), names.index("building"), np.uint8)
    label[: height // 3] = names.index("sky")
    label[int(0.62 * height) :] = names.index("road")
    for _ in range(14):
        h, w = rng.integers(6, height // 3), rng.integers(5, width // 6)
        y, x = rng.integers(height // 4, height - h), rng.integers(0, width - w)
        label[y : y + h, x : x + w] = rng.integers(len(classes))
    label[-10:] = 255
    label[20:40, 100:110] = 255
    prediction = np.roll(label, (2, 4), (0, 1))
    prediction = np.where(prediction == 255, names.index("road"), prediction)
    rare = np.array([about["train_pixel_share"] for about in classes]) < 0.003
    prediction = np.where(rare[prediction], names.index("building"), prediction)
    colors = np.array([about["color"] for about in classes] + [[20, 20, 20]])
    image = colors[np.where(label == 255, len(classes), label)] * 0.6 + 50
    image = image + rng.normal(0, 14, image.shape)
    return image.clip(0, 255).astype(np.uint8), label, prediction.astype(np.uint8)


def history_of(results: list[dict], steps: int, dropclass: bool) -> list[dict]:
    rng = np.random.default_rng(1)
    lines = []
    for step in range(10, steps + 1, 10):
        t = step / steps
        plain = 2.6 * np.exp(-3 * t) + 0.45 + 0.08 * rng.standard_normal()
        line = {
            "kind": "train",
            "step": step,
            "total_steps": steps,
            "loss": plain,
            "loss_plain": plain,
            "lr": 0.02 * (1 - t) ** 0.9,
            "images_per_second": 21.0 + rng.standard_normal(),
        }
        if dropclass:
            drop = plain + 0.4 * (1 - t) + 0.05 * rng.standard_normal()
            hush = 0.02 * t * rng.exponential()
            line |= {"lambda": 1 - t, "p": t, "loss_drop": drop, "suppression": hush}
            line["dropped"] = rng.binomial(10, t) / 10  # of the ten steps since the last line
            line["loss"] = (1 - t) * plain + t * drop + 10 * hush
        lines.append(line)
        if step % (steps // 5) == 0:
            lines += [
                {"kind": "eval", "step": step}
                | {key: entry[key] for key in ("split", "head")}
                | {"mean_iou": entry["mean_iou"] * (1 - np.exp(-4 * t)) / (1 - np.exp(-4))}
                | {"iou": entry["iou"]}
                for entry in results
            ]
    return lines


def write_run(
    workdir: pathlib.Path,
    palette: dict = STREETS,
    dataset: str = "streets",
    dropclass: bool = True,
    splits: tuple[str, ...] = ("val", "val_out"),
    steps: int = 600,
    samples: int = 3,
    seed: int = 0,
) -> pathlib.Path:
    """Write a finished run: config, metrics, and (where asked for) training lines and samples."""
    workdir.mkdir(parents=True, exist_ok=True)
    classes = classes_of(palette)
    heads = ("drop", "plain") if dropclass else ("plain",)
    skill = {"val": 0.9, "val_out": 0.72, "drop": 0.04, "plain": 0.0}
    last = len(classes) - 1
    results = [
        entry_of(
            confusion_of(
                classes,
                skill.get(split, 0.85) + skill[head],
                seed=3,
                missing=[last - 2] if split == "val" else [],
                mute=[last - 1] if head == "plain" or split == "val_out" else [],
            ),
            split,
            head,
        )
        for split in splits
        for head in heads
    ]
    metrics = {
        "dataset": dataset,
        "model": "hrnet_w18_small_v1",
        "dropclass": dropclass,
        "seed": seed,
        "step": steps,
        "command": "python -m dropclass_jax.train --config=configs/streets.py --workdir=runs/1",
        "device": "cpu x 1",
        "versions": {"jax": "0.10.2", "flax": "0.12.8", "python": "3.11.9"},
        "seconds": 412.0,
        "classes": classes,
        "results": results,
    }
    (workdir / "metrics.json").write_text(json.dumps(metrics))
    optimizer = {"lr": 0.02, "momentum": 0.9}
    config = {"seed": seed, "model": {"name": "hrnet_w18_small_v1"}, "optimizer": optimizer}
    (workdir / "config.json").write_text(json.dumps(config))
    if steps:
        lines = history_of(results, steps, dropclass)
        (workdir / "metrics.jsonl").write_text("".join(json.dumps(x) + "\n" for x in lines))
    if samples:
        arrays = {}
        for split in splits:
            for n in range(samples):
                image, label, prediction = scene(classes, seed=n + 10 * len(split))
                arrays |= {f"{split}/{n}/image": image, f"{split}/{n}/label": label}
                arrays |= {
                    f"{split}/{n}/prediction": prediction,
                    f"{split}/{n}/id": f"{split}_{n:04}",
                }
        np.savez_compressed(workdir / "samples.npz", **arrays)
    return workdir


if __name__ == "__main__":
    root = pathlib.Path(sys.argv[1])
    write_run(root / "streets")
    write_run(root / "camvid", CAMVID, "camvid", splits=("val", "test"))
    write_run(root / "plain", CAMVID, "camvid", dropclass=False, splits=("test",))
    write_run(root / "bare", dropclass=False, splits=("val",), steps=0, samples=0)
