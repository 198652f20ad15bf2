"""Tables as lines of text, for the terminal."""

from __future__ import annotations

import re
from collections.abc import Sequence


def aligned(
    header: Sequence[str], rows: Sequence[Sequence[str]], means: Sequence[Sequence[str]] = ()
) -> list[str]:
    """Lines of text: the first column to the left, the rest to the right, rules in between.

    Args:
      header: a heading a column.
      rows: the cells.
      means: rows that stand apart at the end, below a rule of their own.

    Returns:
      The lines; control characters, which a terminal would obey, are question marks in them.
    """
    header, *cells = ([_shown(cell) for cell in row] for row in (header, *rows, *means))
    rows, means = cells[: len(rows)], cells[len(rows) :]
    widths = [max(map(len, column)) for column in zip(header, *rows, *means, strict=True)]

    def line(cells: Sequence[str]) -> str:
        first, *rest = (
            cell.rjust(width) if i else cell.ljust(width)
            for i, (cell, width) in enumerate(zip(cells, widths, strict=True))
        )
        return "  ".join([first, *rest]).rstrip()

    rule = "-" * (sum(widths) + 2 * (len(widths) - 1))
    lines = [line(header), rule, *map(line, rows)]
    return [*lines, rule, *map(line, means)] if means else lines


def _shown(cell: str) -> str:
    return re.sub(r"[\x00-\x1f\x7f-\x9f]", "?", cell)
