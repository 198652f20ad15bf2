"""A ``metrics.json`` of strange content is one clear error, and never markup."""

from __future__ import annotations

import copy
import json

import pytest

from dropclass_jax.errors import UserError
from dropclass_jax.runs import results

GOOD = {
    "dataset": "some",
    "model": "tiny",
    "dropclass": True,
    "step": 4,
    "seed": 0,
    "classes": [
        {"name": "a <b> & c", "color": [0, 9, 255], "train_pixels": 3, "train_pixel_share": 1.0}
    ],
    "results": [
        {"split": "val", "head": "drop", "images": 2, "iou": [None], "pixels": [3],
         "confusion": [[3]], "mean_iou": 0.5}
    ],
}  # fmt: skip
SCRIPT = "<script>alert(1)</script>"


def write(folder, content):
    (folder / "metrics.json").write_text(json.dumps(content))


def test_what_a_run_writes_is_read(tmp_path, tiny_run):
    write(tmp_path, GOOD)
    assert results.read_metrics(tmp_path) == GOOD
    assert results.try_metrics(tmp_path) == GOOD
    assert results.read_metrics(tiny_run) == results.try_metrics(tiny_run) != {}


@pytest.mark.parametrize(
    ("where", "value"),
    [
        (("step",), SCRIPT), (("step",), [4]), (("step",), -1), (("step",), True),
        (("dropclass",), "yes"), (("seed",), {}), (("dataset",), 3), (("classes",), {"a": 1}),
        (("classes", 0), "road"), (("classes", 0, "name"), None),
        (("classes", 0, "color"), "red"), (("classes", 0, "color"), [1, 2, 999]),
        (("classes", 0, "train_pixel_share"), "1"), (("results",), 7), (("results", 0), []),
        (("results", 0, "images"), SCRIPT), (("results", 0, "head"), SCRIPT),
        (("results", 0, "head"), []), (("results", 0, "split"), SCRIPT),
        (("results", 0, "iou"), [SCRIPT]), (("results", 0, "iou"), [0.5, 0.5]),
        (("results", 0, "confusion"), [[1, 2]]), (("results", 0, "mean_iou"), "0.5"),
    ],
)  # fmt: skip
def test_other_types_are_named(tmp_path, where, value):
    content = copy.deepcopy(GOOD)
    inner = content
    for key in where[:-1]:
        inner = inner[key]
    inner[where[-1]] = value
    write(tmp_path, content)
    with pytest.raises(UserError, match=r"metrics\.json is not what a run writes: ") as error:
        results.read_metrics(tmp_path)
    assert "\n" not in str(error.value)
    assert len(str(error.value)) < 400
    assert results.try_metrics(tmp_path) == {}


@pytest.mark.parametrize("content", [[], None, 3, "text"])
def test_what_is_no_object_is_named(tmp_path, content):
    write(tmp_path, content)
    with pytest.raises(UserError, match="it is no JSON object"):
        results.read_metrics(tmp_path)
    assert results.try_metrics(tmp_path) == {}
