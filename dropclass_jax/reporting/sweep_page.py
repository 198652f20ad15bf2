"""Write the results of a sweep: a table, JSON, CSV, figures and a page."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import matplotlib
from matplotlib.figure import Figure

from dropclass_jax.comparison.intervals import Estimate
from dropclass_jax.evaluation import summary
from dropclass_jax.files import finite, write_csv, write_json, write_text
from dropclass_jax.reporting import page, sweep_figures, sweep_summary, wording
from dropclass_jax.reporting.formats import percent, points
from dropclass_jax.reporting.markup import Html, code, h1, h2, h3, join, p
from dropclass_jax.reporting.sweep_summary import SCORES, Result, Row, Score
from dropclass_jax.reporting.text_table import aligned


def write(
    folder: Path,
    results: Sequence[Result],
    question: str,
    arms: Mapping[str, Mapping[str, Any]],
    spec: str,
    missing: Sequence[str],
    command: str,
) -> str:
    """Write `sweep.json`, `sweep.csv`, `sweep.png` and `report.html` into a sweep's folder.

    And `steps.png`, where there are arms of two methods or more that differ in length alone.

    Args:
      folder: the sweep's.
      results: of its finished runs.
      question: what the sweep asks, a sentence.
      arms: `{arm: {config key: value}}`.
      spec: the config that the arms differ from.
      missing: the runs that are not finished.
      command: of the sweep, as it was given.

    Returns:
      The table, and where the files are, as text.
    """
    rows = sweep_summary.rows(results)
    split = sweep_summary.main_split(results)
    setting = {
        "question": question,
        "config": spec,
        "dataset": results[0].metrics["dataset"],
        "model": results[0].metrics["model"],
        "split": split,
        "missing": list(missing),
        "arms": arms,
        "command": command,
        "devices": sorted({result.metrics.get("device", "unknown") for result in results}),
        "versions": _versions(results),
    }
    write_json(folder / "sweep.json", {**setting, "rows": [_as_json(row) for row in rows]})
    _write_csv(folder / "sweep.csv", rows, split)
    with matplotlib.rc_context({"text.parse_math": False}):
        charts = {"sweep": sweep_figures.arms(rows, question, split)}
        if len(courses := sweep_figures.courses(rows)) > 1:
            charts["steps"] = sweep_figures.steps(courses, split)
        for name, chart in charts.items():
            chart.savefig(folder / f"{name}.png", dpi=130)
        html = _page(setting, rows, charts)
    write_text(folder / "report.html", html)
    pictures = (f"{name}.png" for name in charts)
    files = ", ".join(("sweep.json", "sweep.csv", *pictures, "report.html"))
    return "\n".join(["", question, *text(rows, split), *notes(setting, rows)]) + (
        f"\n\nwritten: {folder}/{{{files}}}"
    )


def _versions(results: Sequence[Result]) -> dict[str, str]:
    """What the runs were made with; several versions of a module with commas."""
    versions: dict[str, set[str]] = {}
    for result in results:
        for module, version in result.metrics.get("versions", {}).items():
            versions.setdefault(module, set()).add(version)
    return {module: ", ".join(sorted(found)) for module, found in versions.items()}


def text(rows: Sequence[Row], split: str) -> list[str]:
    """The tables as lines of text, scores in %."""
    lines = [f"{split}, numbers in % (s/step: seconds)", *aligned(*_cells(rows))]
    for title, (header, cells) in _other_scores(rows).items():
        lines += ["", title, *aligned(header, cells)]
    return lines


def _other_scores(rows: Sequence[Row]) -> dict[str, tuple[list[str], list[list[str]]]]:
    """Tables of all scores but the main one: `{title: (header, cells)}`, each with intervals."""
    names = [name for name in SCORES if any(name in row.scores for row in rows)][1:]
    if not names:
        return {}

    def mean(score: Score) -> str:
        return _with_interval(score.mean)

    def difference(score: Score) -> str:
        return "-" if score.difference is None else _with_interval(score.difference, points)

    def cells(rows: Sequence[Row], written: Callable[[Score], str]) -> list[list[str]]:
        return [
            [row.label, *(written(row.scores[n]) if n in row.scores else "-" for n in names)]
            for row in rows
        ]

    header = ["arm", *(SCORES[name] for name in names)]
    tables = {"Other scores, with the 95 % intervals of their means": (header, cells(rows, mean))}
    if len(rows) > 1:
        title = "Their differences in points, with 95 % intervals"
        tables[title] = (header, cells(rows[1:], difference))
    return tables


def notes(setting: Mapping[str, Any], rows: Sequence[Row]) -> list[str]:
    """What must be known to read the table."""
    compared = len(rows) - 1
    lines = ["intervals of means are for other seeds on the same images"]
    if compared:
        references = {row.against for row in rows[1:]}
        reference = references.pop() if len(references) == 1 else "the arm that is named"
        lines = [
            f"difference: of mIoU, from {reference}; 'within noise': its interval holds 0",
            f"{lines[0]}; those of differences for other images too, where every run has "
            "images.npz (but of the gap)",
        ]
    if any(len(row.seeds) == 1 for row in rows):
        lines.append("one seed tells nothing of others: '-' and 'unknown'")
    if compared >= 3:
        lines.append(
            f"of {compared} differences like these, {compared / 20:.1f} would be called higher or "
            "lower by chance alone"
        )
    if any("context_gap" in row.scores for row in rows):
        lines.append("gap: mean over the classes of both splits, without those at 0 in both")
    lines.append(
        "class groups by share of the training pixels: "
        + ", ".join(f"{group} {meaning}" for group, meaning in summary.GROUPS.items())
    )
    if setting["missing"]:
        lines.append(f"not finished: {', '.join(setting['missing'])}")
    return lines


def _cells(rows: Sequence[Row]) -> tuple[list[str], list[list[str]]]:
    several = len({row.steps for row in rows}) > 1
    header = ["arm", *(["steps"] if several else []), "seeds", "mIoU", "sd", "95 %"]
    named = len({row.against for row in rows[1:]}) > 1
    header += [
        "difference",
        *(["from"] if named else []),
        "95 %",
        "verdict",
        "s/step",
    ]
    lines = []
    for row in rows:
        main = row.scores["mean_iou"]
        lines.append(
            [
                row.label,
                *([str(row.steps)] if several else []),
                str(len(row.seeds)),
                percent(main.mean.value),
                percent(main.deviation),
                _interval(main.mean),
                "" if main.difference is None else points(main.difference.value),
                *([row.against or ""] if named else []),
                "" if main.difference is None else _interval(main.difference, points),
                main.verdict,
                "-" if row.seconds_per_step is None else f"{row.seconds_per_step:#.3g}",
            ]
        )
    return header, lines


def _interval(estimate: Estimate, written: Callable[[float], str] = percent) -> str:
    if math.isnan(estimate.low):
        return "-"
    return f"[{written(estimate.low)}, {written(estimate.high)}]"


def _with_interval(estimate: Estimate, written: Callable[[float], str] = percent) -> str:
    """`12.3 [11.0, 13.6]`; without the interval where one seed tells nothing of it."""
    value = written(estimate.value)
    return value if math.isnan(estimate.low) else f"{value} {_interval(estimate, written)}"


def _as_json(row: Row) -> dict[str, Any]:
    facts = {
        "arm": row.arm,
        "head": row.head,
        "seeds": row.seeds,
        "steps": row.steps,
        "against": row.against,
        "seconds_per_step": row.seconds_per_step,
    }
    return {**facts, "scores": {name: _score_json(score) for name, score in row.scores.items()}}


def _score_json(score: Score) -> dict[str, Any]:
    entry = {"seeds": score.seeds, "deviation": score.deviation, **score.mean._asdict()}
    entry["mean"] = entry.pop("value")
    if score.difference is not None:
        entry["difference"] = {**score.difference._asdict(), "verdict": score.verdict}
    return entry


def _write_csv(path: Path, rows: Sequence[Row], split: str) -> None:
    """A row an arm, head and score; fractions at full precision, unknown ones empty."""
    columns = ["arm", "head", "split", "steps", "score", "seeds", "mean", "deviation", "low"]
    columns += [
        "high",
        "against",
        "difference",
        "difference_low",
        "difference_high",
        "seconds_per_step",
    ]
    lines = []
    for row in rows:
        for name, score in row.scores.items():
            facts = [row.arm, row.head, split, row.steps, name, len(score.seeds)]
            values = [score.mean.value, score.deviation, *score.mean[1:]]
            values += [row.against, *(score.difference or [None] * 3)]
            lines.append(finite([*facts, *values, row.seconds_per_step]))
    write_csv(path, [columns, *lines])


def _page(setting: Mapping[str, Any], rows: Sequence[Row], charts: Mapping[str, Figure]) -> str:
    arms = {
        arm: join(*(code(f"{k}={v}") for k, v in settings.items()), between=", ")
        or "the config as it is"
        for arm, settings in setting["arms"].items()
    }
    versions = ", ".join(f"{module} {found}" for module, found in setting["versions"].items())
    body = [
        h1(setting["question"]),
        p(
            f"{setting['model']} on {setting['dataset']}, scored on ",
            code(setting["split"]),
            "; the arms differ from ",
            code(setting["config"]),
            kind="under",
        ),
        page.bullets(findings(rows)),
        *(
            page.vector(chart, name, setting["question"], wide=True)
            for name, chart in charts.items()
        ),
        p("An interval that leaves the picture is cut there."),
        h2("In numbers"),
        _table(*_cells(rows)),
        *(h3(title) + _table(*content) for title, content in _other_scores(rows).items()),
        page.bullets(notes(setting, rows)),
        h2("The arms"),
        page.definitions(arms, "facts"),
        h2("How it was made"),
        page.definitions(
            {
                "command": code(setting["command"]),
                "hardware": "; ".join(setting["devices"]),
                "versions": versions,
            },
            "facts",
        ),
    ]
    return page.page(setting["question"], body)


def _table(header: Sequence[str], cells: Sequence[Sequence[str]]) -> Html:
    return page.table(header, [("", line) for line in cells])


def findings(rows: Sequence[Row]) -> list[str]:
    """A sentence a row but the first: how it differs from the reference, or that it does not."""
    sentences = []
    for row in rows[1:]:
        score = row.scores["mean_iou"]
        where = f"{row.label}: {wording.against(score.difference.value, row.against)} in mean IoU"
        interval = _interval(score.difference, points).replace(" ", "\N{NO-BREAK SPACE}")
        noise = {
            "unknown": "; with one seed, nothing can be said about noise",
            "within noise": f", within noise: {interval}",
        }
        more = f", more than noise: {interval}"
        sentences.append(f"{where}{noise.get(score.verdict, more)}.")
    return sentences
