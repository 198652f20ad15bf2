"""Counts of made-up runs on the same images."""

import numpy as np


def counts_of(quality, seed=0, images=40, classes=4):
    """Runs ``[S, N, K, 3]`` on the same images; ``quality`` ``[S]`` is about their accuracy."""
    rng = np.random.default_rng(seed)
    labelled = rng.integers(0, 400, (images, classes)) * (rng.random((images, classes)) < 0.7)
    hard = rng.normal(0, 0.15, (images, classes))
    runs = []
    for q in quality:
        accuracy = np.clip(q + hard + rng.normal(0, 0.02, hard.shape), 0, 1)
        hits = (labelled * accuracy).astype(np.int64)
        runs.append(np.stack([hits, labelled, hits + labelled // 5], axis=-1))
    return np.stack(runs)
