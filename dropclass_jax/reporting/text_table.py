"""Tables as lines of text, for the terminal."""

from __future__ import annotations

from collections.abc import Sequence


def aligned(
    header: Sequence[str], rows: Sequence[Sequence[str]], means: Sequence[Sequence[str]] = ()
) -> list[str]:
    """Lines of text: the first column to the left, the rest to the right, rules in between.

    Args:
      header: a heading a column.
      rows: the cells.
      means: rows that stand apart at the end, below a rule of their own.
    """
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
