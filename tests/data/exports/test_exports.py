"""Every export, from its folder to labels that are exact to the pixel."""

from __future__ import annotations

import fabricate_exports as fake
import numpy as np
import pytest

from dropclass_jax import data

WRITERS = list(fake.EXPORTS.items())


def labels_of(dataset: data.Dataset) -> dict[str, dict[str, np.ndarray]]:
    return {
        split: {example["id"]: example["label"] for example in source}
        for split, source in dataset.splits.items()
    }


def check(found: dict, expected: dict) -> None:
    assert {s: list(named) for s, named in found.items()} == {
        s: list(named) for s, named in expected.items()
    }
    for split, named in expected.items():
        for name, label in named.items():
            np.testing.assert_array_equal(found[split][name], label, f"{split} {name}")


@pytest.mark.parametrize(("line", "write"), WRITERS, ids=[w.__name__ for _, w in WRITERS])
def test_labels_are_exact(line, write, load, tmp_path, capsys):
    written = write(tmp_path / "export")
    dataset = load(tmp_path / "export")
    assert line in capsys.readouterr().out.splitlines()
    assert dataset.info.classes == written.classes
    found = labels_of(dataset)
    if "val" not in written.labels:  # drawn
        assert found.keys() == {"train", "val"}
        found = {"train": dict(sorted({**found["train"], **found["val"]}.items()))}
    check(found, written.labels)
    # Opened again it is the same set, in silence.
    assert load(tmp_path / "export").fingerprint == dataset.fingerprint
    assert capsys.readouterr().out == ""
