"""Embed figures in a page, and write each as a PNG file beside it."""

from __future__ import annotations

import re
from pathlib import Path

from matplotlib.figure import Figure

from dropclass_jax.reporting import page
from dropclass_jax.reporting.markup import Html


class Files:
    """Embeds figures, and keeps each in a folder under its name."""

    def __init__(self, folder: Path):
        """Into ``folder``."""
        self._folder = folder

    def vector(self, figure: Figure, name: str, label: str, wide: bool = False) -> Html:
        """A chart for the page; see ``page.vector``."""
        self._keep(figure, name)
        return page.vector(figure, name, label, wide)

    def raster(self, figure: Figure, name: str, label: str) -> Html:
        """Pictures for the page; see ``page.raster``."""
        self._keep(figure, name)
        return page.raster(figure, label, "jpeg")

    def _keep(self, figure: Figure, name: str) -> None:
        figure.savefig(self._folder / f"{name}.png", dpi=110, facecolor="white")


def file_name(name: str) -> str:
    """A label or class name as a part of a file's name."""
    return re.sub(r"[^\w-]+", "_", name).strip("_").lower() or "_"
