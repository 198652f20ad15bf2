"""Write a comparison of two sides as JSON, CSV, a figure and a page."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path

import matplotlib
from matplotlib.figure import Figure

from dropclass_jax.comparison.sides import Outcome
from dropclass_jax.files import finite, write_csv, write_json, write_text
from dropclass_jax.reporting import compare_summary, page
from dropclass_jax.reporting.compare_summary import Row
from dropclass_jax.reporting.formats import percent
from dropclass_jax.reporting.markup import BREAK, Html, code, h1, h2, join, p
from dropclass_jax.reporting.plot_style import (
    BLUE,
    GRID,
    INK,
    ORANGE,
    legend,
    new_figure,
    plain_axes,
    sentence_title,
)

COLUMNS = ("kind", "name", "train_pixel_share", "a", "b", "difference", "low", "high", "p")
COLUMNS += ("verdict",)

TERMS = {
    "B - A": "What B gains over A in IoU, in points: above 0, B finds more of the class.",
    "95 % interval": "Were the comparison made again, with other images of the same kind and other "
    "seeds of the same training, 19 of 20 such intervals would hold the true difference. Images "
    "are drawn again and again, the same for both sides, so that what is hard for everybody "
    "cancel; the seeds enter by Student's t.",
    "Within noise": "The interval holds 0: nothing shows that the two differ.",
    "In parentheses": "The interval leaves out 0, but among so many classes some do by chance; it "
    "does not count when that is allowed for (by Benjamini and Hochberg).",
}


def write(folder: Path, outcome: Outcome) -> str:
    """Write `compare.json`, `compare.csv`, `compare.png` and `report.html` into a folder.

    Returns:
      Where they are, for the terminal.
    """
    folder.mkdir(parents=True, exist_ok=True)
    rows = compare_summary.rows(outcome)
    records = [dict(zip(COLUMNS, _values(row), strict=True)) for row in rows]
    setting = {
        "split": outcome.split,
        "images": outcome.images,
        "resamples": outcome.resamples,
        **{
            side: {
                "name": name,
                "workdirs": workdirs,
                "commands": commands,
                "head": head,
                "steps": steps,
            }
            for side, name, workdirs, head, steps, commands in zip(
                "ab", *outcome[:4], outcome.commands, strict=True
            )
        },
        "differences": [difference._asdict() for difference in outcome.differences],
        "findings": compare_summary.findings(outcome),
    }
    write_json(folder / "compare.json", {**setting, "rows": records})
    write_csv(folder / "compare.csv", [COLUMNS, *(finite(_values(row)) for row in rows)])
    with matplotlib.rc_context({"text.parse_math": False}):
        chart = figure(outcome)
        chart.savefig(folder / "compare.png", dpi=130)
        html = _page(outcome, rows, chart)
    write_text(folder / "report.html", html)
    files = ", ".join(("compare.json", "compare.csv", "compare.png", "report.html"))
    return f"\nwritten: {folder}/{{{files}}}"


def _values(row: Row) -> list[object]:
    return [*row[:5], *row.difference, row.p, row.verdict]


def figure(outcome: Outcome) -> Figure:
    """Differences with their intervals: the means, then the classes, the commonest first."""
    rows = [row for row in compare_summary.rows(outcome) if not math.isnan(row.difference.value)]
    means = sum(row.kind != "class" for row in rows)
    chart = new_figure(7.8, 0.26 * len(rows) + 2.0)
    axes = plain_axes(chart.add_subplot(), grid="x")
    axes.axvline(0, color=INK, linewidth=1)
    axes.axhline(means - 0.5, color=GRID, linewidth=0.8, linestyle=(0, (4, 3)))
    for place, row in enumerate(rows):
        color, marker, filled = _look(row)
        axes.plot(row.difference[1:], [place, place], color=color, linewidth=1.6, zorder=2)
        face = color if filled else "white"
        axes.plot(row.difference.value, place, marker, color=color, markerfacecolor=face, zorder=3)
        text = f"{percent(row.a)} → {percent(row.b)}"
        axes.text(
            1.01, place, text, transform=axes.get_yaxis_transform(), va="center", fontsize=8,
            color=INK,
        )  # fmt: skip
    labels = [
        row.name if row.share is None else f"{row.name}  {row.share:.2%}" for row in rows
    ]  # fmt: skip
    axes.set_yticks(range(len(rows)), labels)
    axes.set_ylim(len(rows) - 0.4, -0.6)
    axes.text(
        1.01, -0.75, "IoU in %, A → B", transform=axes.get_yaxis_transform(), va="bottom",
        fontsize=8, color=INK,
    )  # fmt: skip
    a, b = outcome.names
    axes.set_xlabel(f"points of IoU that {b} gains over {a} (95 % intervals)")
    axes.xaxis.set_major_formatter(lambda value, _: f"{100 * value:+.3g}" if value else "0")
    marks = [
        axes.plot([], [], marker, color=color, markerfacecolor=face, label=label)[0]
        for marker, color, face, label in (
            ("o", BLUE, BLUE, f"{b} higher"),
            ("s", ORANGE, ORANGE, f"{b} lower"),
            ("o", BLUE, "white", "(higher): asked for alone"),
            ("s", ORANGE, "white", "(lower): asked for alone"),
            ("D", GRID, "white", "within noise"),
            ("x", GRID, "white", "0 in both"),
            ("|", GRID, "white", "too few images for an interval"),
        )
        if any(_look(row) == (color, marker, face == color) for row in rows)
    ]
    legend(chart, loc="outside lower center", ncols=3, handles=marks)
    sentence_title(chart, compare_summary.findings(outcome)[0])
    return chart


def _look(row: Row) -> tuple[str, str, bool]:
    """Colour, marker, and whether it is filled: no two verdicts differ by colour alone."""
    if row.verdict.startswith("never"):
        return GRID, "x", False
    if row.verdict == compare_summary.TOO_FEW:
        return GRID, "|", False
    if row.verdict == compare_summary.NOISE:
        return GRID, "D", False
    higher = row.difference.value > 0
    return (BLUE if higher else ORANGE), ("o" if higher else "s"), not row.verdict.startswith("(")


def _page(outcome: Outcome, rows: Sequence[Row], chart: Figure) -> str:
    first, second = outcome.names
    lines = [("" if row.kind == "class" else "mean", _cells(row)) for row in rows]
    runs = {
        side: join(
            *(
                code(path) + ", by " + code(command)
                for path, command in zip(workdirs, commands, strict=True)
            ),
            between=BREAK,
        )
        for side, workdirs, commands in zip("AB", outcome.workdirs, outcome.commands, strict=True)
    }
    findings = compare_summary.findings(outcome)
    title = f"{second} against {first} on {outcome.split}"
    body = [
        h1(title),
        p(join(*compare_summary.sides(outcome), between=BREAK), kind="under"),
        p(findings[0], kind="lead"),
        page.bullets(findings[1:]),
        page.beside(page.vector(chart, "compare", "Difference of the IoU per class"), TERMS),
        h2("In numbers"),
        page.table(compare_summary.HEADER, lines),
        h2("What differs between the sides"),
        _differences(outcome),
        h2("The runs"),
        page.definitions(runs, "facts"),
    ]
    return page.page(title, body)


def _cells(row: Row) -> list[Html | str]:
    cells: list[Html | str] = [*compare_summary.cells(row)]
    if row.kind == "class":
        cells[2:4] = page.score(row.a), page.score(row.b)
    return cells


def _differences(outcome: Outcome) -> Html:
    if not outcome.differences:
        return p("Nothing but the folders.")
    header = ["", *(f"{side}: {name}" for side, name in zip("AB", outcome.names, strict=True))]
    return page.table(header, [("", line) for line in outcome.differences], "words")
