"""The section of an analysis page on heat maps: a table and pictures."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from dropclass_jax.evaluation import summary
from dropclass_jax.reporting import analysis_wording as wording
from dropclass_jax.reporting import cam_figures, page
from dropclass_jax.reporting.figure_files import Files, file_name
from dropclass_jax.reporting.markup import Html, b, h2, p


def blocks(
    content: Mapping[str, Any], pictures: Mapping[str, Sequence[cam_figures.Row]], files: Files
) -> list[Html]:
    """Blocks of the page.

    Args:
      content: `analysis.json`.
      pictures: `{class name: rows of every run and image}`; nothing for none.
      files: keeps the figures.
    """
    if not pictures:
        return []
    colors = {entry["name"]: entry["color"] for entry in content["classes"]}
    whose = "labelled" if content["region"] == "label" else "predicted"
    listed = [
        h2("Where the networks look"),
        p(
            "Bright is where a layer speaks for the class (seg-Grad-CAM, Vinogradova et al. 2020: "
            f"the class's score is summed over the pixels {whose} as it, and every channel of a "
            "layer counts by the mean gradient of that sum). The outline is the class's label, the "
            "colour in the first picture what the network calls it. Each map has its own scale; "
            "brightness tells where, not how much. In the layer that the classifier reads, the map "
            "is the class's score without its constant. These are the images in which the class is "
            "largest."
        ),
        p(
            "A network that knows the object is bright on it; one that knows its surroundings is "
            "bright beside it. In numbers, over all images that were looked at:"
        ),
        page.bullets([wording.heat(run) for run in content["runs"]]),
        _table(content),
    ]
    for name, rows in pictures.items():
        layers = cam_figures.layers(rows)
        label, file = f"Where the networks look for {name}", f"heat_{file_name(name)}"
        read = [layer for layer in layers if cam_figures.read_by_classifier(layer)]
        figure = cam_figures.grid(rows, read or layers, name, colors[name])
        listed.append(files.raster(figure, file, label))
        if read and (inner := [layer for layer in layers if layer not in read]):
            figure = cam_figures.grid(rows, inner, name, colors[name], ", inside the backbone")
            folded = files.raster(figure, f"{file}_backbone", f"{label}, inside the backbone")
            listed.append(page.folded(f"{name}: the maps inside the backbone", folded))
    return listed


def _table(content: Mapping[str, Any]) -> Html:
    """Per class and run, how much of the heat of each layer lies on the class."""
    runs = content["runs"]
    layers = {run["label"]: _layers(run) for run in runs}
    header = ["class", "images", "share of image"]
    header += [f"{label}: found" for label in layers]
    header += [f"{label}: {layer}" for label, names in layers.items() for layer in names]
    rows = []
    for entry in (content["classes"][k] for k in summary.by_share(content["classes"])):
        name = entry["name"]
        if name not in runs[0]["grad_cam"]:
            continue
        images = [run["grad_cam"][name] for run in runs]
        cells = [
            page.swatch(entry["color"]) + name,
            str(len(images[0])),
            _mean(image["share_of_image"] for image in images[0]),
            *(_mean(image["found"] for image in many) for many in images),
            *(
                _mean(image["heat_on_class"][layer] for image in many)
                for many, names in zip(images, layers.values(), strict=True)
                for layer in names
            ),
        ]
        rows.append(("", cells))
    return page.table(header, rows) + p(
        "All in %. ",
        b("Found"),
        ": the share of the class's pixels that the network calls it. The other columns: the share "
        "of the layer's heat that lies on the class; a map that is the same everywhere has the "
        "class's share of the image.",
    )


def _layers(run: Mapping[str, Any]) -> list[str]:
    """The layers that speak for any class anywhere."""
    images = [image["heat_on_class"] for images in run["grad_cam"].values() for image in images]
    return [
        layer
        for layer in (images[0] if images else ())
        if any(image[layer] is not None for image in images)
    ]


def _mean(values: Any) -> str:
    known = [value for value in values if value is not None]
    return f"{100 * sum(known) / len(known):.1f}" if known else "–"
