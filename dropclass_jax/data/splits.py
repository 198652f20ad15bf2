"""Drawing ``val`` from one folder, so that it holds some of every class that it can.

A draw by chance alone easily leaves a rare class out of ``val``, whose score then says nothing
about it. This one is stratified by the classes that the images hold, rarest first, after Sechidis
et al., "On the Stratification of Multi-label Data" (ECML 2011), section 3.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Collection, Mapping, Sequence

import numpy as np


def draw(holds: Mapping[str, Collection[int]], share: float, seed: int) -> set[str]:
    """Choose some of the images for validation: a share of them, but at least one.

    The rarest class, by images, chooses first: it takes its share of the images that hold it, but
    at least one, if there are two. So ``val`` becomes larger than its share where many rare classes
    have no image in common. The last image that holds a class stays in training. Among images that
    will do, a turn decides that depends on name and seed alone: what is added later moves few.

    >>> sorted(draw({"a": [0], "b": [0, 1], "c": [0, 1], "d": [0]}, 0.25, seed=1) & {"b", "c"})
    ['b']

    Args:
      holds: the classes that each image holds, by its name.
      share: of the images that are chosen, between 0 and 1.
      seed: of the draw.

    Returns:
      The names of the chosen.
    """
    order = sorted(holds, key=lambda name: hashlib.sha256(f"{seed}/{name}".encode()).digest())
    by_class: dict[int, list[str]] = {}
    for name in order:
        for held in set(holds[name]):
            by_class.setdefault(held, []).append(name)
    wanted = max(1, min(round(len(order) * share), len(order) - 1))
    quota = {c: max(1, round(len(names) * share)) for c, names in by_class.items()}
    limit = {c: len(names) - 1 for c, names in by_class.items()}
    chosen: set[str] = set()
    number: Counter[int] = Counter()  # of the chosen images that hold a class

    def choose(name: str, most: Mapping[int, int]) -> None:
        if name not in chosen and all(number[c] < min(most[c], limit[c]) for c in set(holds[name])):
            chosen.add(name)
            number.update(set(holds[name]))

    for held, names in sorted(by_class.items(), key=lambda item: (len(item[1]), item[0])):
        for name in names:
            if number[held] < quota[held] and (len(chosen) < wanted or not number[held]):
                choose(name, quota)
        for name in names:  # one too many of another class is better than none of this
            if not number[held]:
                choose(name, limit)
    for most in (quota, limit):
        for name in order:
            if len(chosen) < wanted:
                choose(name, most)
    return chosen or set(order[:1])


def gaps(classes: Sequence[str], class_images: Mapping[str, np.ndarray]) -> list[str]:
    """A line for every class that a split lacks and another has, and one of those that none has.

    Args:
      classes: K names.
      class_images: how many images hold each class, [K], by the split; splits without any label
        do not count.
    """
    labelled = {split: counts for split, counts in class_images.items() if np.any(counts)}
    lines, nowhere = [], []
    for position, name in enumerate(classes):
        has = {split: int(counts[position]) for split, counts in labelled.items()}
        if not any(has.values()):
            nowhere.append(name)
        elif not all(has.values()):
            without = " or ".join(split for split, number in has.items() if not number)
            there = ", ".join(f"{split} {number}" for split, number in has.items() if number)
            lines.append(
                f"warning: no image of {without} holds {name} (images that do: {there}): it cannot "
                "be learnt or scored there"
            )
    if nowhere and labelled:
        more = f" and {len(nowhere) - 3} more" if nowhere[3:] else ""
        lines.append(f"warning: no image holds {', '.join(nowhere[:3])}{more}")
    return lines
