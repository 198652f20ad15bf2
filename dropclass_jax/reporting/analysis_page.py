"""The page of an analysis, `report.html`, and its figures as PNG files beside it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np

from dropclass_jax.files import write_text
from dropclass_jax.reporting import analysis_figures as figures
from dropclass_jax.reporting import analysis_wording as wording
from dropclass_jax.reporting import cam_figures, heat_section, page
from dropclass_jax.reporting.analysis_figures import Panel
from dropclass_jax.reporting.figure_files import Files, file_name
from dropclass_jax.reporting.markup import Html, b, code, h1, h2, h3, p, pre

Content = Mapping[str, Any]

HOW = {
    "drop": "drop head, its own way",
    "plain": "plain head, features faded",
}


def write(
    folder: Path, content: Content, pictures: Mapping[str, Sequence[cam_figures.Row]]
) -> None:
    """Write the page and its figures.

    Args:
      folder: there already.
      content: `analysis.json`.
      pictures: `{class name: rows of every run and image}`.
    """
    files = Files(folder)
    # Class names and file names are text: a `$` in one must not start a formula.
    with matplotlib.rc_context({"text.parse_math": False}):
        body = [
            *_opening(content),
            *_dependence(content, files),
            *_correlation(content, files),
            *_features(content, files),
            *_selection(content, files),
            *_context(content, files),
            *heat_section.blocks(content, pictures, files),
            *_reproduce(content),
        ]
    title = f"{content['dataset']}: what the networks have learned"
    write_text(folder / "report.html", page.page(title, body))


def _opening(content: Content) -> list[Html]:
    return [
        h1(f"{content['dataset']}: what the networks have learned"),
        p("Semantic segmentation: one class for every pixel of an image.", kind="under"),
        p(wording.subject(content), kind="lead"),
        p(
            f"{wording.caution(content['runs'])} Classes are ordered by their share of the "
            "training pixels throughout, the commonest first."
        ),
    ]


def _each(content: Content, say: Any) -> Html:
    return page.bullets([say(run) for run in content["runs"]])


def _dependence(content: Content, files: Files) -> list[Html]:
    runs, classes = content["runs"], content["classes"]
    blocks = [
        h2("Who leans on whom"),
        p(
            "One class's features are left out, without training anything anew, and every class is "
            "scored again: a row is the class left out, a column the class whose IoU changes, a "
            "cell that change in points. The diagonal is what a class loses without its own "
            "features. ",
            b("Off the diagonal orange means leaning"),
            ": this class was recognised by features that speak for the other one.",
        ),
        p(wording.noise(content["images"])),
    ]
    if any("drop" in run["dependence"] for run in runs):
        blocks.append(
            p(
                b("Drop head"),
                ": a DropClass network has a way of its own to leave a class out, and saw it done "
                "in training. ",
                b("Plain head"),
                ": a network without it is shown its own features, each faded by the share of its "
                "importance that the class left out holds: a feature that speaks for this class "
                "alone vanishes, one that speaks for many hardly changes. No network was trained "
                "for that, so compare plain heads with each other, and read their maps as what the "
                "classifier reads, not as what it could do without.",
            )
        )
    else:
        blocks.append(
            p(
                "A plain network has no way of its own to leave a class out. It is shown its own "
                "features, each faded by the share of its importance that the class left out "
                "holds: a feature that speaks for this class alone vanishes, one that speaks for "
                "many hardly changes. It was not trained for that, so read the map as what the "
                "classifier reads, not as what it could do without."
            )
        )
    for head in ("drop", "plain"):
        here = [run for run in runs if head in run["dependence"]]
        if not here:
            continue
        blocks.append(h3(HOW[head].capitalize()))
        blocks.append(page.bullets([wording.dependence(run, head, classes) for run in here]))
        effects = [run["dependence"][head] for run in here]
        limit = max(np.max(np.abs(_known(effect["change"])), initial=0.02) for effect in effects)
        for run, effect in zip(here, effects, strict=True):
            figure = figures.heat_maps(
                [
                    Panel(
                        f"mean IoU with nothing left out: {wording.iou(run, head)}",
                        effect["change"],
                        np.array(effect["clear"]) if wording.has_intervals(effect) else True,
                    )
                ],
                classes,
                f"{run['label']}, {HOW[head]}: IoU points lost or gained by a class (column) when "
                "one (row) is left out",
                limit=limit,
                ends=(f"−{100 * limit:.0f} points", f"+{100 * limit:.0f} points"),
                marks={-limit / 4: f"−{25 * limit:.0f}", limit / 4: f"+{25 * limit:.0f}"},
                labels=("left out", "changes"),
                scale=100,
                norm=figures.root_norm(limit),
            )
            label = f"Change of every class's IoU without each class, {run['label']}, {HOW[head]}"
            name = f"dependence_{file_name(run['label'])}_{head}"
            blocks.append(files.vector(figure, name, label, wide=True))
    if len(runs) > 1:
        effects = {run["label"]: run["dependence"]["plain"] for run in runs}
        points = {label: _points(effect["leaning"]) for label, effect in effects.items()}
        ends = {
            label: (_points(effect["leaning_low"]), _points(effect["leaning_high"]))
            for label, effect in effects.items()
        }
        figure = figures.dots_by_class(
            points,
            runs,
            classes,
            "How a class's IoU changes on average when another class's features are faded, with "
            "95 % intervals over images",
            "mean change of its IoU in points, plain head",
            percent=False,
            intervals=ends,
        )
        blocks.append(files.vector(figure, "leaning", "Mean change of IoU per class", wide=True))
    return blocks


def _known(values: Any) -> np.ndarray:
    array = np.array(values, np.float64)
    return array[np.isfinite(array)]


def _points(fractions: Any) -> np.ndarray:
    return 100 * np.array(fractions, np.float64)


def _correlation(content: Content, files: Files) -> list[Html]:
    runs, classes = content["runs"], content["classes"]
    panels = [
        Panel(run["label"], _without_diagonal(run["classifier"]["similarity"])) for run in runs
    ]
    maps = figures.heat_maps(
        panels,
        classes,
        "How alike the classifier's weight vectors are: cosine similarity",
        limit=_limit(panels),
        ends=_ends(panels),
    )
    scatter = figures.similarity_by_share(runs, classes)
    return [
        h2("How the classifier tells classes apart"),
        p(
            "The last layer has a vector of weights for every class, and a pixel is given to the "
            "class whose vector fits its features best. Two vectors of the same direction (cosine "
            "similarity 1) answer to the same features. The DropClass paper finds that in a plain "
            "network the commonest class is the least like the others and the rarest the most, and "
            "takes this for a sign of entangled classes."
        ),
        _each(content, lambda run: wording.correlation(run, classes)),
        files.vector(scatter, "similarity_by_share", "Mean similarity against pixel share"),
        files.vector(maps, "classifier_similarity", "Cosine similarity of weight vectors"),
    ]


def _limit(panels: Sequence[Panel]) -> float:
    """The largest size of a value, 0.1 at least."""
    return max(np.max(np.abs(_known(panel.values)), initial=0.1) for panel in panels)


def _ends(panels: Sequence[Panel]) -> tuple[str, str]:
    limit = _limit(panels)
    return f"−{limit:.2f}", f"{limit:.2f}"


def _features(content: Content, files: Files) -> list[Html]:
    runs, classes = content["runs"], content["classes"]
    panels = [
        Panel(f"{run['label']}: {name}", _without_diagonal(matrix))
        for run in runs
        for name, matrix in run["feature_similarity"].items()
    ]
    figure = figures.heat_maps(
        panels,
        classes,
        "How alike the classes' mean features are: cosine similarity",
        limit=_limit(panels),
        ends=_ends(panels),
    )
    whose = (
        [
            " ",
            code("features"),
            " are what the plain head reads, ",
            code("features_drop"),
            " what the drop head reads.",
        ]
        if any("features_drop" in run["feature_similarity"] for run in runs)
        else []
    )
    return [
        h2("How alike the features of two classes are"),
        p(
            "The mean of the features over all pixels of a class says what the network sees in it. "
            "Features that are never negative point the same way to some degree, whatever they are "
            "of: compare the cells of a map with each other.",
            *whose,
        ),
        _each(content, lambda run: wording.alike(run, classes)),
        files.vector(figure, "feature_similarity", "Cosine similarity of mean features"),
    ]


def _selection(content: Content, files: Files) -> list[Html]:
    runs, classes = content["runs"], content["classes"]
    shares = figures.dots_by_class(
        {run["label"]: run["selection"]["selected_share"] for run in runs},
        runs,
        classes,
        "How many of the features speak for each class",
        "share of the features with a positive importance for the class",
    )
    sharing = figures.feature_sharing(runs, len(classes))
    panels = [
        Panel(
            f"{run['label']} (by chance {chosen['top'] / chosen['features']:.0%})",
            _without_diagonal(chosen["top_overlap"]),
        )
        for run in runs
        for chosen in (run["selection"],)
    ]
    limit = _limit(panels)
    overlap = figures.heat_maps(
        panels,
        classes,
        "Which classes share their most important features",
        limit=limit,
        ends=("", f"{limit:.0%} shared"),
    )
    return [
        h2("Which features each class selects"),
        p(
            "The importance of a feature for a class is how much the class's score rises with it; "
            "for this classifier it is the feature's weight. DropClass takes a class to consist of "
            "the features with a positive importance: what it leaves out, when it leaves a class "
            "out, is the share that they have in all classes' mean."
        ),
        _each(content, wording.selection),
        files.vector(shares, "selected_features", "Share of features per class", wide=True),
        files.vector(sharing, "feature_sharing", "Classes per feature", wide=True),
        files.vector(overlap, "top_features", "Overlap of the most important features"),
    ]


def _without_diagonal(matrix: Any) -> np.ndarray:
    matrix = np.array(matrix, np.float64)
    np.fill_diagonal(matrix, np.nan)
    return matrix


def _context(content: Content, files: Files) -> list[Html]:
    runs, classes = content["runs"], content["classes"]
    here = [run for run in runs if run["context_gap"]]
    if not here:
        return []
    inside, outside = here[0]["context_gap"]["splits"]
    figure = figures.dots_by_class(
        {
            run["label"]: [None if g is None else -100 * g for g in run["context_gap"]["gap"]]
            for run in here
        },
        runs,
        classes,
        "What each class loses where the network does not expect it",
        f"IoU on {outside} less IoU on {inside}, in points",
        percent=False,
    )
    missing = ", ".join(run["label"] for run in runs if not run["context_gap"])
    return [
        h2("In and out of context"),
        p(
            code(inside),
            " shows every class where it usually stands, ",
            code(outside),
            " elsewhere. A network that knows a class by its surroundings loses there, to the left "
            "of the line; one that never finds a class has nothing to lose. The scores are those "
            "of the runs' own ",
            code("metrics.json"),
            f" (not evaluated on both at the analysed step: {missing})." if missing else ".",
        ),
        page.bullets([wording.gap(run, classes) for run in here]),
        files.vector(figure, "context_gap", "Loss of IoU out of context", wide=True),
    ]


def _reproduce(content: Content) -> list[Html]:
    facts = {run["label"]: run["workdir"] for run in content["runs"]}
    versions = ", ".join(f"{name} {version}" for name, version in content["versions"].items())
    return [
        h2("How to reproduce it"),
        pre(content["command"]),
        page.definitions(facts | {"Versions": versions}, "facts"),
        p("All numbers: ", code("analysis.json"), "."),
    ]
