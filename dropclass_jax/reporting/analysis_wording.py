"""The sentences of an analysis, each computed from `analysis.json`. Functions return HTML."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from dropclass_jax.comparison.bootstrap import FEW
from dropclass_jax.evaluation import summary
from dropclass_jax.evaluation.summary import Classes
from dropclass_jax.reporting.analysis_figures import Runs, signed
from dropclass_jax.reporting.markup import Html, b, code, join
from dropclass_jax.reporting.wording import count, names, percent, points

Run = Mapping[str, Any]

CLEAR = 0.05  # a rank correlation that random orders reach less often counts as an order
HARDLY = 0.01  # an IoU below which a class is as good as never found
MARKED = 0.1  # of its IoU a class should lose without its own features, or leaving out is no test


def subject(content: Mapping[str, Any]) -> Html:
    """What was analysed."""
    runs = (
        b(run["label"])
        + f" is {run['model']} trained "
        + ("with DropClass" if run["dropclass"] else "in the plain way")
        + f" for {count(run['step'], 'step')} (seed {run['seed']})"
        for run in content["runs"]
    )
    return (
        join(*runs, between="; ")
        + ". What the networks do with images is measured on "
        + f"{count(content['images'], 'image')} of "
        + code(content["split"])
        + f" of {content['dataset']}."
    )


def caution(runs: Runs) -> str:
    """What cannot be concluded from it."""
    if len(runs) == 1:
        return (
            "This is one network. Another seed gives another one: look at several before you call "
            "what you see a property of the method."
        )
    return (
        "Each of these is one network, and two networks that differ in their seed alone differ, "
        "too. Before you call a difference an effect of the method, look at several seeds of each."
    )


def correlation(run: Run, classes: Classes) -> Html:
    """Whether rare classes have weight vectors more like the others'."""
    means = _array(run["classifier"]["mean_similarity"])
    rank = run["classifier"]["rank_correlation_with_pixels"]
    known = np.flatnonzero(np.isfinite(means))
    order = known[np.argsort(means[known])]
    sentence = (
        b(run["label"])
        + ": least like the others is "
        + names([order[0]], classes)
        + f" ({signed(means[order[0]])}), most "
        + names([order[-1]], classes)
        + f" ({signed(means[order[-1]])})."
    )
    if rank is None:
        return sentence
    if rank["p"] >= CLEAR:
        seen = "there is no clear order by pixel share"
    elif rank["rho"] < 0:
        seen = "the rarer a class, the more it is like the others"
    else:
        seen = "the commoner a class, the more it is like the others"
    return sentence + (
        f" The rank correlation of similarity with pixels is {signed(rank['rho'])} "
        f"(n = {count(rank['n'], 'class', 'classes')}, p {_probability(rank['p'])}): {seen}."
    )


def alike(run: Run, classes: Classes) -> Html:
    """Which classes have the most similar mean features."""
    sentences = []
    for features, matrix in run["feature_similarity"].items():
        matrix = _off_diagonal(matrix)
        if not np.isfinite(matrix).any():
            continue
        first, second = np.unravel_index(np.nanargmax(matrix), matrix.shape)
        sentences.append(
            "in "
            + code(features)
            + " most alike are "
            + join(*(names([k], classes) for k in (first, second)), between=" and ")
            + f" ({signed(matrix[first, second])}), and two classes on average "
            + signed(np.nanmean(matrix))
        )
    return b(run["label"]) + ": " + join(*sentences, between="; ") + "."


def selection(run: Run) -> Html:
    """How many features a class selects, and how many classes a feature."""
    chosen = run["selection"]
    users = np.asarray(chosen["classes_per_feature"])
    overlap = np.nanmean(_off_diagonal(chosen["top_overlap"]))
    return b(run["label"]) + (
        f": a class selects {np.mean(chosen['selected_share']):.0%} of the "
        f"{chosen['features']} features on average, and a feature is selected by "
        f"{users.mean():.1f} classes ({np.sum(users == 0)} features by none, "
        f"{np.sum(users == 1)} by one alone). Of their {chosen['top']} most important features "
        f"two classes share {overlap:.0%} on average; random choices would share "
        f"{chosen['top'] / chosen['features']:.0%}."
    )


def noise(images: int) -> str:
    """How to tell changes from noise, where an analysis has so many images."""
    return (
        "A cell is blank where the change is within noise: with other images of the same kind, the "
        "same network could show none, or the opposite. (The intervals are by a bootstrap over the "
        f"{count(images, 'image')}, and it is allowed for that so many cells are looked at, by "
        "Benjamini and Hochberg. They say nothing of other seeds.) Classes that are labelled in "
        f"fewer than {FEW} images have no intervals."
    )


def has_intervals(effect: Mapping[str, Any]) -> bool:
    """Whether there are enough images to tell any change from noise."""
    return bool(np.isfinite(_array(effect["low"])).any())


def dependence(run: Run, head: str, classes: Classes) -> Html:
    """How leaving out a class changes its own IoU and those of others, and the strongest pairs."""
    effect = run["dependence"][head]
    change = _array(effect["change"])
    own, others = np.diagonal(change), _off_diagonal(change)
    if not np.isfinite(others).any():
        return b(run["label"]) + ": fewer than two classes are there to lean on each other."
    sentence = b(run["label"]) + (
        f" (mean IoU {iou(run, head)}): left out itself, a class "
        f"{_changes(np.nanmean(own))} on average; "
        f"when another one is left out, it {_changes(np.nanmean(others), digits=2)}"
    )
    tail = [k for k, c in enumerate(classes) if summary.group_of(c["train_pixel_share"]) == "tail"]
    if tail and np.isfinite(others[:, tail]).any():
        mean = np.nanmean(others[:, tail])
        sentence += f" (a tail class {_changes(mean, digits=2)})"
    sentence += "."
    mean = np.nanmean(_array(effect["iou"]))
    if head == "drop" and mean > 0 and np.nanmean(own) > -MARKED * mean:
        sentence += (
            f" So the network hardly tells that a class is left out: it still keeps "
            f"{1 + np.nanmean(own) / mean:.0%} of its IoU, and the map says little about leaning."
        )
    if not has_intervals(effect):
        return sentence + " The images are too few to tell changes from noise: all are shown."
    clear = np.asarray(effect["clear"], bool) & np.isfinite(others)
    sentence += (
        f" Of the {np.isfinite(others).sum()} changes by another class's absence {clear.sum()} "
        "are more than noise."
    )
    pairs = leanings(np.where(clear, others, np.nan), 3)
    if not pairs:
        return sentence + " No class clearly loses half a point by another's absence."
    strongest = (
        "without "
        + names([i], classes)
        + ", "
        + names([j], classes)
        + f" loses {points(value)} ({_range(effect, i, j)})"
        for i, j, value in pairs
    )
    return sentence + " The strongest: " + join(*strongest, between="; ") + "."


def _range(effect: Mapping[str, Any], i: int, j: int) -> str:
    """The interval of a loss, the smaller first: 3.1 to 7.8."""
    low, high = (-100 * effect[end][i][j] for end in ("high", "low"))
    return f"{low:.1f} to {high:.1f}"


def leanings(others: np.ndarray, most: int) -> list[tuple[int, int, float]]:
    """`(left out, who loses, change)` of the largest losses of half a point or more.

    Args:
      others: `[K, K]` IoU changes, NaN on the diagonal.
      most: how many at most.
    """
    filled = np.where(np.isfinite(others), others, np.inf)
    order = np.argsort(filled, axis=None, kind="stable")[:most]
    cells = zip(*np.unravel_index(order, filled.shape), strict=True)
    return [(int(i), int(j), float(filled[i, j])) for i, j in cells if filled[i, j] <= -0.005]


def gap(run: Run, classes: Classes) -> Html:
    """What is lost out of context, on average and by tail classes."""
    gaps = _array(run["context_gap"]["gap"])
    if not np.isfinite(gaps).any():
        return b(run["label"]) + ": no class is in both splits and found in one of them."
    rare = [k for k, c in enumerate(classes) if summary.group_of(c["train_pixel_share"]) == "tail"]
    tail = [k for k in rare if np.isfinite(gaps[k])]
    worst = int(np.nanargmax(gaps))
    sentence = b(run["label"]) + f": a class {_changes(-np.nanmean(gaps))} on average"
    if tail:
        sentence += f", a tail class {_changes(-gaps[tail].mean())}"
    if gaps[worst] > 0:
        sentence += "; " + names([worst], classes) + f" loses most, {points(gaps[worst])}"
    inside = _array(run["context_gap"]["inside"])
    rare = [k for k in rare if np.isfinite(inside[k])]
    lost = sum(inside[k] < HARDLY for k in rare)
    if lost:
        sentence += (
            f". Of the {count(len(rare), 'tail class', 'tail classes')} {lost} had hardly anything "
            f"to lose (an IoU under {HARDLY:.0%} in context)"
        )
    return sentence + "."


def heat(run: Run) -> Html:
    """How much of the heat lies on the class, in each layer, over all images."""
    images = [image for images in run["grad_cam"].values() for image in images]
    if not images:
        return Html()
    layers = images[0]["heat_on_class"]
    shares = {
        layer: np.nanmean(values)
        for layer in layers
        if np.isfinite(values := _array([i["heat_on_class"][layer] for i in images])).any()
    }
    chance = np.mean([image["share_of_image"] for image in images])
    listed = ", ".join(f"{layer} {share:.0%}" for layer, share in shares.items())
    return b(run["label"]) + (
        f" finds {np.mean(_array([i['found'] for i in images])):.0%} of their pixels, "
        f"and of its heat lies on them: {listed} (they hold {chance:.1%} of these images)."
    )


def iou(run: Run, head: str) -> str:
    """The mean IoU that the changes are changes of."""
    return percent(summary.mean_present(run["dependence"][head]["iou"]))


def _changes(value: float, digits: int = 1) -> str:
    if abs(100 * value) < 0.5 * 10**-digits:
        return "keeps its IoU"
    return f"{'loses' if value < 0 else 'gains'} {abs(100 * value):.{digits}f} points of IoU"


def _probability(p: float) -> str:
    return "< 0.001" if p < 0.001 else f"= {p:.3f}"


def _array(values: Sequence[Any]) -> np.ndarray:
    return np.array(values, np.float64)


def _off_diagonal(matrix: Any) -> np.ndarray:
    matrix = _array(matrix)
    np.fill_diagonal(matrix, np.nan)
    return matrix
