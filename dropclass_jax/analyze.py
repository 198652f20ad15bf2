"""Analyse what one or several networks have learned, side by side.

python -m dropclass_jax.analyze RUN [LABEL=RUN ...] --out=DIR [--split=val] [--images=N]
    [--classes=rider,bicycle]

writes `report.html`, the page to read, its figures as PNG files and `analysis.json` with all
numbers. A run's label is its method or the part of its folder that tells it from the others.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from absl import flags
from tqdm import tqdm

from dropclass_jax.analysis import choose, explain, measure, numbers
from dropclass_jax.analysis.after_features import classifier_weights
from dropclass_jax.cli import app, out_folder
from dropclass_jax.data import pipeline
from dropclass_jax.data.info import counted_class_list
from dropclass_jax.errors import UserError, unknown
from dropclass_jax.evaluation import summary
from dropclass_jax.files import finite, write_json
from dropclass_jax.reporting import analysis_page, cam_figures
from dropclass_jax.runs import provenance, results, trained_network
from dropclass_jax.runs.trained_network import TrainedNetwork

MOST_RUNS = 6  # more cannot be told apart in one chart
PICTURES = 3  # images of a class that are shown; the others count in the numbers


class Options(NamedTuple):
    """What to analyse.

    Attributes:
      split: of the first run's data; the first of its ``config.eval.splits`` by default.
      images: how many of it, from all over it; all by default.
      classes: names of those whose heat maps are drawn; the tail classes by default.
      cam_images: images a class that heat maps are computed for.
      region: of the heat maps, one of ``explain.REGIONS``.
      checkpoint: ``last``, ``best`` or a step.
      data_dir: the data's source folder, if it has moved.
    """

    split: str | None = None
    images: int | None = None
    classes: Sequence[str] = ()
    cam_images: int = 6
    region: str = "label"
    checkpoint: str = "last"
    data_dir: str | None = None


def analyze(runs: Sequence[str], out: Path, options: Options) -> dict[str, Any]:
    """Analyse runs and write page, figures and numbers.

    Args:
      runs: ``RUN`` or ``LABEL=RUN`` each, folders of ``dropclass_jax.train``.
      out: the folder to write into; made when it is missing.
      options: what to analyse.

    Returns:
      What was written to ``analysis.json``.

    Raises:
      UserError: there is no such run, checkpoint, split or class, the runs are of different data,
        or ``out`` cannot be written.
    """
    named = [split_label(run) for run in runs]
    networks = [trained_network.load(path, options.checkpoint) for _, path in named]
    labels = label_runs([label for label, _ in named], networks)
    check_same_classes(labels, networks)
    dataset = trained_network.load_data(networks[0].workdir, options.data_dir)
    split = options.split or networks[0].facts.eval_splits[0]
    batch_size = networks[0].facts.eval_batch_size
    dataset.check_split(split)
    source = dataset.splits[split]
    classes = counted_class_list(dataset.counted_info)
    chosen = choose_classes(options.classes, classes, source, split, options.cam_images)
    out_folder.make(out)

    looked_at = choose.spread(source, options.images)
    content: dict[str, Any] = {
        "dataset": dataset.info.name,
        "split": split,
        "images": len(looked_at),
        "region": options.region,
        "classes": classes,
        "command": provenance.command(),
        "versions": provenance.versions(),
        "runs": [],
    }
    pictures: dict[int, list[cam_figures.Row]] = {k: [] for k in chosen}
    for label, network in zip(labels, networks, strict=True):
        weights = np.asarray(classifier_weights(network.variables), np.float64)  # [K, C]
        batches = pipeline.eval_iterator(looked_at, batch_size=batch_size)
        many = -(-len(looked_at) // batch_size)
        measured = measure.measure_split(network, progress(batches, f"{label}: {split}", many))
        heat, rows = explain_classes(network, source, chosen, options.region, label)
        content["runs"].append(
            {
                **describe_run(label, network),
                "classifier": numbers.classifier(weights, dataset.class_pixels["train"]),
                "selection": numbers.selected_features(weights),
                **numbers.by_class(measured),
                "context_gap": context_gap(network),
                "grad_cam": {classes[k]["name"]: images for k, images in heat.items()},
            }
        )
        for k, new in rows.items():
            pictures[k] += new
    content = finite(content)
    with out_folder.writing(out):
        write_json(out / "analysis.json", content)
        analysis_page.write(
            out, content, {classes[k]["name"]: rows for k, rows in pictures.items()}
        )
    return content


def split_label(run: str) -> tuple[str | None, Path]:
    """``LABEL=RUN`` or ``RUN``, which may have a ``=`` of its own if it is there."""
    label, equals, path = run.partition("=")
    if not equals or Path(run).exists():
        return None, Path(run)
    if not label or not path:
        raise UserError(f"{run!r} is neither a run's folder nor LABEL=RUN")
    return label, Path(path)


def label_runs(given: Sequence[str | None], networks: Sequence[TrainedNetwork]) -> list[str]:
    """A name for every run: the one given, or the shortest way to tell them all apart.

    Raises:
      UserError: no run, too many, or two of one name.
    """
    if not networks:
        raise UserError("name the folder of one run or of several: analyze RUN [RUN ...] --out=DIR")
    if len(networks) > MOST_RUNS:
        raise UserError(f"{len(networks)} runs are too many side by side: give up to {MOST_RUNS}")
    parts = [network.workdir.resolve().parts for network in networks]
    ways = [
        ["DropClass" if network.facts.dropclass else "plain" for network in networks],
        *(["/".join(part[-n:]) for part in parts] for n in range(1, max(map(len, parts)) + 1)),
    ]
    own = next((way for way in ways if len(set(way)) == len(way)), ways[-1])
    labels = [name or other for name, other in zip(given, own, strict=True)]
    for label in labels:
        if labels.count(label) > 1:
            raise UserError(f"two runs are called {label!r}: give each its own name, as LABEL=RUN")
    return labels


def check_same_classes(labels: Sequence[str], networks: Sequence[TrainedNetwork]) -> None:
    """Refuse runs of different data sets or classes.

    Raises:
      UserError: they are of different data sets or class lists.
    """
    first = networks[0].info
    for label, network in zip(labels, networks, strict=True):
        info = network.info
        if (info.name, info.classes) != (first.name, first.classes):
            what = (
                f"data set {info.name}, not {first.name}"
                if info.name != first.name
                else f"other classes ({', '.join(info.classes)}; not {', '.join(first.classes)})"
            )
            raise UserError(
                f"run {label} is of {what} as {labels[0]}: analyse runs of one data set at a time"
            )


def choose_classes(
    names: Sequence[str], classes: summary.Classes, source: Any, split: str, images: int
) -> dict[int, list[int]]:
    """Each class whose heat maps are drawn, with the images they are computed for.

    Raises:
      UserError: there is no such class, or it is nowhere large enough.
    """
    known = [entry["name"] for entry in classes]
    where = [choose.images_of(source, k, images) for k in range(len(known))]
    if not names:
        shares = [entry["train_pixel_share"] for entry in classes]
        rare = choose.rare_classes(shares, list(map(bool, where)), summary.TAIL_SHARE)
        return {k: where[k] for k in rare}
    for name in names:
        if name not in known:
            raise UserError(unknown("class", name, known))
        if not where[known.index(name)]:
            raise UserError(
                f"class {name} is not to be seen in {split}: in no image does it hold "
                f"{choose.LARGE_ENOUGH:.1%} of the pixels"
            )
    return {known.index(name): where[known.index(name)] for name in names}


def progress(batches: Iterable[Any], what: str, total: int) -> Iterable[Any]:
    """The batches, with a progress bar on a terminal."""
    return tqdm(batches, what, total, leave=False, disable=None)


def explain_classes(
    network: TrainedNetwork,
    source: Any,
    chosen: Mapping[int, Sequence[int]],
    region: str,
    label: str,
) -> tuple[dict[int, list[dict[str, Any]]], dict[int, list[cam_figures.Row]]]:
    """Heat maps of every chosen class in its images: their numbers, and rows of pictures."""
    heat: dict[int, list[dict[str, Any]]] = {k: [] for k in chosen}
    rows: dict[int, list[cam_figures.Row]] = {k: [] for k in chosen}
    tasks = [(k, i) for k, indices in chosen.items() for i in indices]
    if not tasks:
        return heat, rows
    subset = choose.Subset(source, [i for _, i in tasks])
    explain_one = explain.explainer(network, pipeline.largest_shape(subset), region)
    examples = progress(pipeline.eval_iterator(subset, batch_size=1), f"{label}: heat", len(tasks))
    for (k, _), batch in zip(tasks, examples, strict=True):
        explained = explain_one(batch["image"][0], batch["label"][0], k)
        height, width = batch["size"][0]
        example = {
            "id": str(batch["id"][0]),
            "image": batch["image"][0, :height, :width],
            "label": batch["label"][0, :height, :width],
        }
        explained = explained._replace(
            heat={layer: map_[:height, :width] for layer, map_ in explained.heat.items()},
            answer=explained.answer[:height, :width],
        )
        heat[k].append(numbers.heat(example, k, explained))
        if len(rows[k]) < PICTURES:
            rows[k].append(cam_figures.row(label, example, k, explained))
    return heat, rows


def describe_run(label: str, network: TrainedNetwork) -> dict[str, Any]:
    """Name, method, seed and step of a run."""
    return {
        "label": label,
        "workdir": str(network.workdir),
        "model": network.facts.model,
        "dropclass": network.facts.dropclass,
        "seed": network.facts.seed,
        "step": network.step,
    }


def context_gap(network: TrainedNetwork) -> dict[str, Any] | None:
    """``numbers.context_gap`` of a network; None where it was not evaluated at this step."""
    with contextlib.suppress(UserError):
        metrics = results.read_metrics(network.workdir)
        return numbers.context_gap(metrics) if metrics["step"] == network.step else None
    return None


def main(argv: list[str]) -> None:
    """The command."""
    given = flags.FLAGS
    options = Options(
        split=given.split,
        images=given.images,
        classes=[name.strip() for name in given.classes if name.strip()],
        cam_images=given.cam_images,
        region=given.region,
        checkpoint=given.checkpoint,
        data_dir=given.data_dir,
    )
    analyze(argv[1:], Path(given.out), options)
    print(f"written: {given.out}/report.html, its figures, analysis.json")


if __name__ == "__main__":
    flags.DEFINE_string("out", None, "The folder to write into.", required=True)
    flags.DEFINE_string("split", None, "Of the first run's data; its first eval split by default.")
    flags.DEFINE_integer("images", None, "How many of its images; all by default.", lower_bound=1)
    flags.DEFINE_list("classes", [], "Whose heat maps to draw; the tail classes by default.")
    flags.DEFINE_integer("cam_images", 6, "Images a class with heat maps.", lower_bound=1)
    flags.DEFINE_enum(
        "region", "label", list(explain.REGIONS), "Explain labelled or predicted pixels."
    )
    flags.DEFINE_string("checkpoint", "last", "Which: last, best (by mean IoU) or a step.")
    flags.DEFINE_string("data_dir", None, "The data's source folder, if it has moved.")
    app.run(main, positional=True)
