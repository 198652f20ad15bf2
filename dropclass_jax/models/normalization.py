"""Input normalisation of a network."""

from __future__ import annotations

from typing import NamedTuple


class Normalization(NamedTuple):
    """``(image / 255 - mean) / std``, for R, G and B: it belongs to the weights."""

    mean: tuple[float, float, float]
    std: tuple[float, float, float]

    def __str__(self) -> str:
        mean, std = (", ".join(f"{value:.4g}" for value in values) for values in self)
        return f"mean {mean} and deviation {std}"

    def is_like(self, other: Normalization) -> bool:
        """Whether the two differ by no more than the roundings in use, 127 or 127.5 of 255."""
        pairs = zip((*self.mean, *self.std), (*other.mean, *other.std), strict=True)
        return all(abs(one - two) < 0.01 for one, two in pairs)
