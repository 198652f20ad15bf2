"""Check every file of a source before training, and report all faults."""

from __future__ import annotations

import numpy as np

from dropclass_jax.data import splits
from dropclass_jax.data.builder import Example, SegmentationBuilder
from dropclass_jax.data.pairs import PairBuilder
from dropclass_jax.errors import UserError


def check(builder: SegmentationBuilder) -> int:
    """Read every pair as preparing would, and print a line for each fault.

    Nothing is written. What is printed is what preparing would refuse, or leave out with
    ``skip_bad``, in the same words.

    Returns:
      An exit code: 1 if an example is bad and not to be left out, or a split has no good one.
    """
    if not isinstance(builder, PairBuilder):
        print(f"{builder.name} is drawn: there are no files to check")
        return 0
    good = dict.fromkeys(builder.split_names, 0)
    images = {split: np.zeros(builder.facts.num_classes, np.int64) for split in good}
    bad = 0
    verdict = "left out" if builder.skip_bad else "bad"
    for split in builder.split_names:
        ignored = np.zeros(2, np.int64)  # pixels and images with some
        pixels = 0
        try:
            for outcome in builder.outcomes(split):
                if isinstance(outcome, Example):
                    good[split] += 1
                    number = np.count_nonzero(outcome.label == builder.facts.ignore_label)
                    ignored += (number, number > 0)
                    pixels += outcome.label.size
                    held = np.bincount(outcome.label.ravel(), minlength=256) > 0
                    images[split] += held[: builder.facts.num_classes]
                else:
                    bad += 1
                    print(f"{verdict}: {outcome}", flush=True)
        except UserError as error:  # of an archive that cannot be read any further
            bad += 1
            print(f"bad: {error}", flush=True)
            return 1
        if ignored.any():
            print(
                f"{split}: {ignored[0] / pixels:.1%} of the pixels are ignored, in {ignored[1]} of "
                f"{good[split]} images"
            )
    for note in (*builder.notes, *splits.gaps(builder.facts.classes, images)):
        print(f"note: {note}")
    counts = ", ".join(f"{split} {number}" for split, number in good.items())
    print(f"{builder.name}: {counts} good examples, {bad} {verdict}")
    if bad and not builder.skip_bad:
        print("mend them, or leave them out: --skip-bad here, data.options.skip_bad in training")
    return int(not all(good.values()) or (bad > 0 and not builder.skip_bad))
