"""HTML of self-contained report pages, for light and dark themes, wide and narrow screens.

Functions take HTML (`markup.Html`) or plain text, which they escape, and return HTML. The pages
forbid scripts and anything from elsewhere, whatever else is in them.
"""

from __future__ import annotations

import base64
import io
import re
from collections.abc import Iterable, Mapping, Sequence
from string import Template

import matplotlib
from matplotlib.figure import Figure

from dropclass_jax.reporting.formats import percent
from dropclass_jax.reporting.markup import Html, b, element, html, join, opening
from dropclass_jax.reporting.plot_style import BLUE, INK

_STYLE = """
:root { color-scheme: light dark; --ink: #1b1f24; --soft: #59636e; --page: #ffffff;
  --card: #f4f6f8; --line: #d5dae0; --accent: #0072b2; --warn: #b34700;
  --shade: #1b1f2466; }
@media (prefers-color-scheme: dark) { :root { --ink: #e6e9ed; --soft: #a3acb6; --page: #14171b;
  --card: #1e2329; --line: #38404a; --accent: #56b4e9; --warn: #ff9a57;
  --shade: #000000cc; } }
* { box-sizing: border-box; }
body { margin: 0 auto; padding: 2rem 1.25rem 4rem; max-width: 70rem; background: var(--page);
  color: var(--ink); font: 16px/1.55 system-ui, -apple-system, "Segoe UI", Roboto, sans-serif; }
h1 { font-size: 1.7rem; line-height: 1.2; margin: 0 0 .2rem; }
h2 { font-size: 1.25rem; margin: 3rem 0 .6rem; padding-top: .8rem;
  border-top: 1px solid var(--line); }
h3 { font-size: 1.02rem; margin: 1.6rem 0 .3rem; }
p, ul { max-width: 46rem; } p.lead { font-size: 1.12rem; }
p.under { color: var(--soft); margin: 0 0 1rem; }
li { margin: .25rem 0; } .warn { color: var(--warn); font-weight: 600; }
.tiles { display: grid; gap: .75rem; margin: 1.4rem 0; padding: 0;
  grid-template-columns: repeat(auto-fit, minmax(9.5rem, 1fr)); }
.tile { background: var(--card); border-radius: .5rem; padding: .7rem .9rem; }
.tile b { display: block; font-size: 1.6rem; line-height: 1.2; font-variant-numeric: tabular-nums; }
.tile span { color: var(--soft); font-size: .85rem; display: block; line-height: 1.35; }
.beside { display: grid; grid-template-columns: minmax(0, 1fr) 17rem; gap: 0 2rem;
  align-items: start; margin: 1rem 0 2rem; }
.beside dl { margin: 0; background: var(--card); border-radius: .5rem; padding: .8rem 1rem;
  font-size: .92rem; line-height: 1.45; }
dl.terms dt { font-weight: 650; } dl.terms dd { margin: 0 0 .7rem; }
dl.terms dd:last-child { margin-bottom: 0; }
figure { margin: 0 0 1.5rem; overflow-x: auto; }
figure svg, figure img { display: block; width: 100%; height: auto; }
/* A figure grows with the page, but not until its letters are larger than the page's. */
figure svg, figure img { max-width: calc(1.2 * var(--natural));
  min-width: min(34rem, var(--natural)); }
.beside figure svg { min-width: min(22rem, var(--natural)); }
figure.wide { max-width: 54rem; } figure img { background: #fff; border-radius: .4rem; }
/* A shadow lies on each side on which a table goes on; covers of the page's colour, which move with
   the content, hide it where the table ends. */
.scroll { overflow-x: auto; margin: 1rem 0; background:
  linear-gradient(to right, var(--page) 60%, transparent) left / 2.2rem 100% no-repeat local,
  linear-gradient(to left, var(--page) 60%, transparent) right / 2.2rem 100% no-repeat local,
  linear-gradient(to right, var(--shade), transparent) left / .9rem 100% no-repeat scroll,
  linear-gradient(to left, var(--shade), transparent) right / .9rem 100% no-repeat scroll; }
table { border-collapse: collapse; font-size: .92rem; font-variant-numeric: tabular-nums; }
th, td { padding: .28rem .8rem .28rem 0; text-align: right; white-space: nowrap; }
th:first-child, td:first-child { text-align: left; }
table.numbers th, table.numbers td:first-child { white-space: normal; min-width: 2.6rem; }
table.numbers td:first-child { min-width: 8rem; }
thead th { border-bottom: 2px solid var(--line); font-weight: 600; vertical-align: bottom; }
tbody td { border-bottom: 1px solid var(--line); }
tr.group td { font-weight: 600; padding-top: .9rem; } tr.mean td { font-weight: 650; }
.zero { color: var(--warn); font-weight: 650; }
table.words th, table.words td { text-align: left; white-space: normal; vertical-align: top;
  overflow-wrap: anywhere; min-width: 9rem; }
.swatch { display: inline-block; width: .85em; height: .85em; margin-right: .5em;
  border: 1px solid var(--line); border-radius: .15em; vertical-align: -.08em; }
pre { background: var(--card); border-radius: .5rem; padding: .8rem 1rem; overflow-x: auto;
  font-size: .88rem; line-height: 1.45; }
dl.facts { display: grid; grid-template-columns: max-content minmax(0, 1fr); gap: .2rem 1.2rem; }
dl.facts dt { color: var(--soft); } dl.facts dd { margin: 0; overflow-wrap: anywhere; }
details { margin: .8rem 0; } summary { cursor: pointer; font-weight: 600; }
@media (max-width: 56rem) { .beside { grid-template-columns: minmax(0, 1fr); gap: 1rem; }
  body { padding-top: 1.2rem; } h1 { font-size: 1.4rem; } }
@media print { h2 { break-after: avoid; } figure { break-inside: avoid; }
  .scroll { overflow: visible; background: none; } table { font-size: .72rem; } }
"""

_PAGE = Template(
    """<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta http-equiv="Content-Security-Policy"
  content="default-src 'none'; style-src 'unsafe-inline'; img-src data:">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>$title</title>
<style>$style</style>
</head>
<body>
$body
</body>
</html>
"""
)


def page(title: str, body: Iterable[Html | str]) -> str:
    """A whole document from a title and its blocks."""
    content = join(*body, between=Html("\n"))
    return _PAGE.substitute(title=html(title), style=_STYLE, body=content)


def vector(figure: Figure, name: str, label: str, wide: bool = False) -> Html:
    """A chart as inline SVG: real text, and ink and blue in the page's own shades.

    Args:
      figure: a chart whose text is drawn in `plot_style.INK`.
      name: unique on the page; keeps the ids inside two charts apart.
      label: what the chart shows, for a screen reader.
      wide: it stands alone, with nothing beside it.
    """
    buffer = io.StringIO()
    unmarked = dict.fromkeys(("Date", "Creator", "Format", "Type"))
    with matplotlib.rc_context({"svg.fonttype": "none", "svg.hashsalt": name}):
        figure.savefig(buffer, format="svg", transparent=True, metadata=unmarked)
    svg = buffer.getvalue()
    svg = svg[svg.index("<svg") :]
    svg = re.sub(r"<!--.*?-->", "", svg, flags=re.DOTALL)
    # Ids such as `axes_1` recur in every chart and nothing refers to them.
    svg = re.sub(r' id="[A-Za-z0-9.]+_\d+"', "", svg).replace(INK, "currentColor")
    svg = svg.replace(BLUE, "var(--accent)")  # lighter on a dark page
    start = opening("svg", role="img", style=_natural(figure), **{"aria-label": label})
    # Text in it was escaped by matplotlib.
    drawing = Html(svg.strip().replace("<svg", start.removesuffix(">"), 1))
    return element("figure", drawing, kind="wide" if wide else "")


def raster(figure: Figure, label: str, kind: str = "png") -> Html:
    """Pictures, embedded as `png` or, many photographs, `jpeg`; on white in either theme."""
    buffer = io.BytesIO()
    figure.savefig(
        buffer, format=kind, dpi=110, pil_kwargs={"quality": 88} if kind == "jpeg" else None
    )
    data = base64.b64encode(buffer.getvalue()).decode()
    source = f"data:image/{kind};base64,{data}"
    return element("figure", opening("img", alt=label, style=_natural(figure), src=source))


def _natural(figure: Figure) -> str:
    """Tells the style sheet the width of a figure on paper."""
    return f"--natural: {96 * figure.get_figwidth():.0f}px"


def beside(figure: Html, terms: Mapping[str, Html | str]) -> Html:
    """A figure with explanations of terms next to it."""
    return element("div", figure, definitions(terms, "terms"), kind="beside")


def definitions(entries: Mapping[str, Html | str], kind: str) -> Html:
    """A definition list."""
    rows = (element("dt", key) + element("dd", value) for key, value in entries.items())
    return element("dl", join(*rows, between=Html("\n")), kind=kind)


def tiles(entries: Sequence[tuple[str, str]]) -> Html:
    """Big numbers, each with what it is."""
    cells = (
        element("div", b(number), element("span", what), kind="tile") for number, what in entries
    )
    return element("div", *cells, kind="tiles")


def bullets(items: Sequence[Html | str]) -> Html:
    """A list; nothing for none."""
    return element("ul", *(element("li", item) for item in items)) if items else Html()


def score(value: float | None) -> Html:
    """A score in %, in the colour of alarm where it is 0."""
    shown = percent(value, unknown="–")
    return element("span", shown, kind="zero") if shown == "0.0" else html(shown)


def table(
    header: Sequence[str],
    rows: Iterable[tuple[str, Sequence[Html | str]]],
    kind: str = "numbers",
) -> Html:
    """A table that scrolls sideways where it must, with a shadow on the side that is cut.

    Args:
      header: of the columns.
      rows: `(CSS class, cells)`.
      kind: `numbers`, or `words`, which are broken into lines.
    """
    heads = (element("th", name, scope="col") for name in header)
    lines = (
        element("tr", *(element("td", cell) for cell in cells), kind=name) for name, cells in rows
    )
    content = element(
        "table", element("thead", element("tr", *heads)), element("tbody", *lines), kind=kind
    )
    return element("div", content, kind="scroll", tabindex=0)


def swatch(color: Sequence[int]) -> Html:
    """A small square in an RGB colour."""
    red, green, blue = (int(channel) for channel in color)
    return element("span", kind="swatch", style=f"background: rgb({red} {green} {blue})")


def folded(heading: str, content: Html) -> Html:
    """Content that opens on a click."""
    return element("details", element("summary", heading), content)
