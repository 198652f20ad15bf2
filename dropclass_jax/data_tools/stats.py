"""Class frequencies of a data set, and class weights computed from them.

    python -m dropclass_jax.data stats --name camvid --dir CAMVID

It prints a table and writes into a folder: ``stats.json``, all of the numbers; ``stats.png``, a
chart of them; ``values.png``, of 16-bit images, the values of each class before and after they
became 8 bits; and ``class_weights.json``, class name to weight by one rule, for
``--config.loss.class_weights=FILE``. All is counted when a set is prepared: no image is read.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from dropclass_jax import data
from dropclass_jax.data_tools import arguments
from dropclass_jax.errors import UserError
from dropclass_jax.evaluation import summary
from dropclass_jax.files import write_json
from dropclass_jax.losses import class_weights
from dropclass_jax.reporting.dataset_stats import chart, table, values_chart


def collect(dataset: data.Dataset, split: str, beta: float | None = None) -> dict[str, Any]:
    """Class statistics of a split.

    Args:
      dataset: the set.
      split: one of its splits.
      beta: of ``class_weights.effective_number``.

    Returns:
      What ``stats.json`` holds: ``classes`` has an entry a class, in the set's order, with its
      ``pixels``, their ``share`` of the labelled ones, the ``images`` that hold it, their
      ``image_share``, its ``group`` and its ``weights``, a value a rule; ``values`` is, of 16-bit
      training images, ``data.windows.Values`` as a dict, else None.

    Raises:
      UserError: the set has no such split, or beta is out of its range.
    """
    arguments.check_split(dataset, split)
    source = dataset.splits[split]
    counts = np.asarray(source.class_pixels, np.int64)  # [N, K]
    pixels, images = counts.sum(axis=0), np.count_nonzero(counts, axis=0)
    labelled = int(pixels.sum())
    shares = pixels / max(labelled, 1)
    rules = {
        **{name: rule(counts) for name, rule in class_weights.RULES.items()},
        "effective_number": class_weights.effective_number(counts, beta),
    }
    return {
        "dataset": dataset.info.name,
        "fingerprint": dataset.fingerprint,
        "split": split,
        "images": len(source),
        "pixels": int(np.prod(source.shapes, axis=1).sum()),
        "labelled_pixels": labelled,
        "classes": [
            {
                "name": name,
                "pixels": int(pixels[k]),
                "share": float(shares[k]),
                "images": int(images[k]),
                "image_share": float(images[k] / max(len(source), 1)),
                "group": summary.group_of(shares[k]) if pixels[k] else "absent",
                "weights": {rule: float(weights[k]) for rule, weights in rules.items()},
            }
            for k, name in enumerate(dataset.info.classes)
        ],
        "values": dataset.values._asdict() if dataset.values and split == "train" else None,
    }


def save(content: Mapping[str, Any], out: Path, rule: str) -> None:
    """Write ``stats.json``, the charts and ``class_weights.json`` into a folder.

    Args:
      content: from ``collect``.
      out: the folder; made if it is missing.
      rule: of the class weights, one of ``class_weights.RULES``.

    Raises:
      UserError: it cannot be written.
    """
    names = [entry["name"] for entry in content["classes"]]
    weights = np.array([entry["weights"][rule] for entry in content["classes"]])
    try:
        out.mkdir(parents=True, exist_ok=True)
        write_json(out / "stats.json", content)
        class_weights.write(out / "class_weights.json", names, weights)
        chart(content).savefig(out / "stats.png")
        if content["values"]:
            values_chart(content).savefig(out / "values.png")
    except OSError as error:
        raise UserError(f"cannot write to {out}: {error.strerror}; choose another --out") from None


def parse(argv: list[str]) -> argparse.Namespace:
    """The options of the command.

    Raises:
      UserError: an unknown one.
    """
    parser = arguments.subparser("stats", __doc__)
    add = parser.add_argument
    add("--split", default="train", help="default: train")
    add("--out", type=Path, help="folder to write to; default: stats-NAME")
    add(
        "--rule",
        choices=list(class_weights.RULES),
        default="effective_number",
        help="of class_weights.json; default: effective_number",
    )
    add("--beta", type=float, help="of effective_number, like 0.9999; default: see class_weights")
    return parser.parse_args(argv)


def main(dataset_loader: Callable[[], data.Dataset], argv: list[str]) -> int:
    """The command; see the module's docstring.

    Args:
      dataset_loader: loads the set.
      argv: what ``stats`` itself has to parse.

    Raises:
      UserError: anything that the user can mend.
    """
    args = parse(argv)
    dataset = dataset_loader()
    content = collect(dataset, args.split, args.beta)
    out = args.out or Path(f"stats-{dataset.info.name}")
    save(content, out, args.rule)
    print(table(content))
    pictures = "stats.png, values.png" if content["values"] else "stats.png"
    print(f"\nwritten: {out}/stats.json, {pictures}, class_weights.json ({args.rule})")
    print(
        f"train with them: --config.loss.class_weights={args.rule}, "
        f"or, to edit them first, --config.loss.class_weights={out}/class_weights.json"
    )
    return 0
