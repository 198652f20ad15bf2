"""Two runs side by side: what is read, what is refused, what is said."""

import csv
import json
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from counts import counts_of
from html_page import Page
from report_fixture import CAMVID, write_run

from dropclass_jax import compare
from dropclass_jax.comparison import sides
from dropclass_jax.errors import UserError
from dropclass_jax.reporting import compare_page, compare_summary
from dropclass_jax.runs.results import common_counts


def write(workdir, quality, heads=("plain",), **settings):
    """A finished run whose images are counted."""
    write_run(workdir, CAMVID, "camvid", dropclass="drop" in heads, steps=0, samples=0, **settings)
    arrays = {"val/ids": np.array([f"image {n}" for n in range(40)])}
    for n, head in enumerate(heads):
        arrays[f"val/{head}/counts"] = counts_of([quality + 0.1 * n], classes=len(CAMVID))[0]
    np.savez(workdir / "images.npz", **arrays)
    (workdir / "metrics.json").write_text(
        json.dumps({**json.loads((workdir / "metrics.json").read_text()), "step": 600})
    )
    return workdir


def outcome(a, b, heads=(None, None)):
    names = compare.names_of(a, b, heads)
    one = sides.read(a, None, heads[0], names[0])
    return sides.compare(one, sides.read(b, "val", heads[1], names[1]), resamples=1000)


def test_equal_runs_differ_by_exactly_nothing(tmp_path):
    a, b = (write(tmp_path / name, 0.6) for name in "ab")
    rows = compare_summary.rows(outcome([a], [b]))
    assert {row.verdict for row in rows} == {"within noise"}
    for row in rows:
        assert row.difference == (0.0, 0.0, 0.0)
    first, *others = compare_summary.findings(outcome([a], [b]))
    assert first == (
        "In mean IoU b is level with a, which is within noise (95 % interval: 0.0 to 0.0)."
    )
    assert "11 of 11 classes are within noise." in others
    assert any("two networks, not two methods" in sentence for sentence in others)


def test_a_lead_in_every_class_is_told(tmp_path):
    """From the runs' folders to the files; one arm's folder holds the runs of several seeds."""
    for seed in range(3):
        write(tmp_path / "sweep/plain" / f"seed{seed}", 0.6 + 0.003 * seed, seed=seed)
        write(tmp_path / "sweep/better" / f"seed{seed}", 0.7 + 0.004 * seed, seed=seed)
    a = compare.expand([str(tmp_path / "sweep/plain")])
    b = compare.expand([str(tmp_path / "sweep/bett*/seed?")])
    assert [path.name for path in a] == [path.name for path in b] == ["seed0", "seed1", "seed2"]
    found = outcome(a, b)
    assert found.names == ("plain", "better")
    rows = compare_summary.rows(found)
    assert [row.name for row in rows[:4]] == [
        *("mean IoU", "head classes (4)", "medium classes (5)", "tail classes (2)"),
    ]
    shares = [row.share for row in rows[4:]]
    assert shares == sorted(shares, reverse=True)
    assert {row.verdict for row in rows} == {"higher"}
    for row in rows:
        assert 0 < row.difference.low < row.difference.value < row.difference.high < 0.3

    shown = compare_summary.text(found)
    assert "better is higher in Road, Building, Sky" in shown
    assert "other images and other seeds" in shown
    print(compare_page.write(tmp_path / "out", found))
    content = json.loads((tmp_path / "out/compare.json").read_text())
    assert content["rows"][0]["difference"] == rows[0].difference.value
    assert content["a"]["steps"] == [600]
    with open(tmp_path / "out/compare.csv", newline="") as file:
        table = list(csv.DictReader(file))
    assert [line["name"] for line in table] == [row.name for row in rows]
    assert float(table[7]["high"]) == rows[7].difference.high
    page = Page((tmp_path / "out/report.html").read_text())
    assert page.tags.count("svg") == 1
    assert "within noise" not in page.text.split("In numbers")[1]


def test_zero_on_both_sides_is_no_noise_and_no_difference(tmp_path):
    """A class that nobody predicts, one that is predicted but never right, and level ones."""
    runs = [write(tmp_path / name, 0.6) for name in "ab"]
    for run in runs:
        arrays = dict(np.load(run / "images.npz"))
        counts = arrays["val/plain/counts"].copy()
        counts[:, 0, [0, 2]] = 0  # Sky
        counts[:, 1, 0] = 0  # Building
        np.savez(run / "images.npz", **{**arrays, "val/plain/counts": counts})
    found = outcome(*([run] for run in runs))
    verdicts = {row.name: row.verdict for row in compare_summary.rows(found)}
    assert verdicts.pop("Sky") == "never predicted by either"
    assert verdicts.pop("Building") == "never right in either"
    assert set(verdicts.values()) == {"within noise"}
    sentences = compare_summary.findings(found)
    assert "Sky is never predicted by either." in sentences
    assert "9 of 11 classes are within noise." in sentences
    compare_page.write(tmp_path / "out", found)
    source = (tmp_path / "out/report.html").read_text()
    assert source.count('class="zero"') == 4  # two classes on two sides, no difference of 0


def test_two_sides_that_are_never_right_are_level_at_0(tmp_path):
    runs = [write(tmp_path / name, 0.6) for name in "ab"]
    for run in runs:
        arrays = dict(np.load(run / "images.npz"))
        arrays["val/plain/counts"][..., 0] = 0
        np.savez(run / "images.npz", **arrays)
    first, *others = compare_summary.findings(outcome(*([run] for run in runs)))
    assert first == "In mean IoU a and b are both at 0: neither is ever right in any class."
    assert not any("more than noise" in sentence for sentence in others)


def test_a_class_in_a_few_images_has_no_interval(tmp_path):
    runs = [write(tmp_path / name, quality) for name, quality in (("a", 0.5), ("b", 0.8))]
    for run in runs:
        arrays = dict(np.load(run / "images.npz"))
        arrays["val/plain/counts"][4:, 0] = 0  # Sky
        np.savez(run / "images.npz", **arrays)
    found = outcome(*([run] for run in runs))
    verdicts = {row.name: row.verdict for row in compare_summary.rows(found)}
    assert verdicts.pop("Sky") == "too few images"
    assert set(verdicts.values()) == {"higher"}
    assert "Fewer than 5 images show Sky: too few for an interval." in compare_summary.findings(
        found
    )
    row = next(x for x in compare_summary.text(found).splitlines() if x.startswith("Sky"))
    assert row.endswith(" -  too few images")
    compare_page.write(tmp_path / "out", found)
    assert "too few images" in (tmp_path / "out/report.html").read_text()


def test_what_differs_is_named(tmp_path):
    a, b = (write(tmp_path / name, 0.6) for name in "ab")
    assert outcome([a], [b]).differences == []
    assert "nothing differs but the folders" in compare_summary.text(outcome([a], [b]))
    metrics = json.loads((b / "metrics.json").read_text())
    metrics["versions"]["jax"] = "0.11.0"
    metrics["command"] = (
        "python -m dropclass_jax.train --workdir /else/where --config=new.py "
        "--config.optimizer.lr=0.5 --config.optimizer.nesterov"
    )  # the values have lines of their own
    (b / "metrics.json").write_text(json.dumps(metrics))
    config = json.loads((b / "config.json").read_text())
    config["optimizer"]["lr"] = 0.5
    (b / "config.json").write_text(json.dumps(config))
    found = outcome([a], [b])
    assert compare_summary.differing(found) == [
        "config.optimizer.lr: 0.02 -> 0.5",
        "version of jax: 0.10.2 -> 0.11.0",
        "command: python -m dropclass_jax.train --config=configs/streets.py -> "
        "python -m dropclass_jax.train --config=new.py",
    ]
    compare_page.write(tmp_path / "out", found)
    content = json.loads((tmp_path / "out/compare.json").read_text())
    assert content["differences"][0] == {"name": "config.optimizer.lr", "a": "0.02", "b": "0.5"}
    assert content["b"]["commands"] == [metrics["command"]]
    assert "config.optimizer.lr0.020.5" in Page((tmp_path / "out/report.html").read_text()).text


def test_heads_of_one_run(tmp_path):
    run = write(tmp_path / "run", 0.6, heads=("plain", "drop"))
    found = outcome([run], [run], ("plain", "drop"))
    assert found.heads == ("plain", "drop")
    assert compare_summary.rows(found)[0].difference.low > 0
    assert compare_summary.differing(found) == ["head: plain -> drop"]
    shown = compare_summary.text(found)
    assert "two heads of one network" in shown
    assert "two networks" not in shown
    assert sides.read([run], "val", None, "run").head == "drop"  # the one that predicts
    assert compare.names_of([run], [run], ("plain", "drop")) == ("plain head", "drop head")


@pytest.mark.parametrize(
    ("a", "b", "names"),
    [
        (["/r/plain/seed0", "/r/plain/seed1"], ["/r/drop/seed0"], ("plain", "drop/seed0")),
        (["/r/plain_0", "/r/plain_1"], ["/r/drop_0", "/r/drop_1"], ("plain", "drop")),
        (["/r/sweep/seed0"], ["/r/sweep/seed1"], ("seed0", "seed1")),
        (["/r/one"], ["/other/two"], ("r/one", "other/two")),
        (["/r/0", "/r/1"], ["/r/2", "/r/3"], ("A", "B")),
        (["/r/one"], ["/r/one"], ("drop head", "own head")),
        (
            [f"/r/plain/seed{seed}" for seed in range(3)],
            [f"/r/alpha_1/seed{seed}" for seed in (10, 11, 12)],
            ("plain", "alpha_1"),
        ),
        (["/r/a_1/seed1", "/r/a_1/seed10"], ["/r/b_5", "/r/b_51"], ("a_1", "b")),
        (["/r/v2_a", "/r/v2_b"], ["/r/net/dropped", "/r/net/dropout"], ("v2", "net")),
    ],
)
def test_sides_have_short_names(a, b, names):
    sides = ([Path(path) for path in side] for side in (a, b))
    assert compare.names_of(*sides, ("drop", None)) == names


def test_a_class_that_differs_by_chance_is_in_parentheses(tmp_path):
    a, b = (write(tmp_path / name, 0.6) for name in "ab")
    result = outcome([a], [b])
    p, low, high = (
        np.array(x) for x in (result.comparison.p, result.comparison.low, result.comparison.high)
    )
    first = 1 + len(result.groups)
    p[first], low[first], high[first] = 0.03, 0.001, 0.1  # of Sky
    b_scores = result.comparison.b.copy()
    b_scores[first] += 0.05
    changed = result._replace(
        comparison=result.comparison._replace(p=p, low=low, high=high, b=b_scores)
    )
    verdicts = {row.name: row.verdict for row in compare_summary.rows(changed)}
    assert verdicts.pop("Sky") == "(higher)"
    assert set(verdicts.values()) == {"within noise"}
    sentences = compare_summary.findings(changed)
    assert any(s.startswith("The intervals of Sky leave out 0 too") for s in sentences)


def test_what_cannot_be_compared_is_refused(tmp_path):
    a, b = (write(tmp_path / name, 0.6) for name in "ab")
    arrays = dict(np.load(b / "images.npz"))

    def changed(**new):
        np.savez(b / "images.npz", **{**arrays, **{k.replace("_", "/"): v for k, v in new.items()}})
        return [a], [b]

    with pytest.raises(UserError, match=r"a and .*b were scored on different images of val"):
        outcome(*changed(val_ids=arrays["val/ids"][::-1]))
    with pytest.raises(UserError, match="scored by different labels of val"):
        outcome(*changed(val_plain_counts=counts_of([0.6], seed=1, classes=11)[0]))
    with pytest.raises(UserError, match="no counts of the drop head on val, only of plain"):
        outcome(*changed(), (None, "drop"))
    with pytest.raises(UserError, match=r"no counts .*dropclass_jax.evaluate --workdir=\S+a --spl"):
        sides.read([a], "test", None, "a")
    for damaged in (b"", (a / "images.npz").read_bytes()[:500]):
        (b / "images.npz").write_bytes(damaged)
        with pytest.raises(UserError, match=r"make them: python -m dropclass_jax.evaluate"):
            outcome([a], [b])
    changed()
    metrics = json.loads((b / "metrics.json").read_text())
    metrics["classes"][0]["name"] = "Sea"
    (b / "metrics.json").write_text(json.dumps(metrics))
    with pytest.raises(UserError, match="have different classes"):
        outcome([a], [b])
    with pytest.raises(UserError, match="names a run twice"):
        compare.expand([str(a), str(tmp_path / "*")])
    with pytest.raises(UserError, match="nowhere is not a directory"):
        sides.read(compare.expand([str(tmp_path / "nowhere")]), None, None, "nowhere")


def test_a_name_that_is_there_is_no_glob(tmp_path):
    for name in ("ohem[1]", "ohem1", "ohem2"):
        write(tmp_path / name, 0.6)
    names = {
        word: [path.name for path in compare.expand([str(tmp_path / word)])]
        for word in ("ohem[1]", "ohem[12]", "ohem[3]")
    }
    assert names == {
        "ohem[1]": ["ohem[1]"],
        "ohem[12]": ["ohem1", "ohem2"],
        "ohem[3]": ["ohem[3]"],  # which is then told to be missing
    }


def test_a_run_is_on_one_side_alone(tmp_path, monkeypatch):
    """Unless both sides are the same runs, by two of their heads."""
    monkeypatch.chdir(tmp_path)
    a, b, link = Path("a"), Path("b"), tmp_path / "link"
    link.symlink_to(tmp_path / "a")
    neither, two = (None, None), ("drop", "plain")
    assert compare.apart([a], [b], neither) == ([a], [b])
    for heads in (neither, two):
        for other in ([a, b], [link]):
            with pytest.raises(UserError, match=f"^{other[0]} is on both sides: name it on one"):
                compare.apart([b, a], other, heads)
    assert compare.apart([a, b], [link, b.absolute()], two) == ([a, b], [a, b])
    with pytest.raises(UserError, match="both sides are the same; give --head_a"):
        compare.apart([a], [link], neither)


def test_an_out_that_cannot_be_written_is_told_before_the_work(tmp_path):
    a, b = (write(tmp_path / name, quality) for name, quality in (("a", 0.5), ("b", 0.8)))
    (tmp_path / "file").touch()
    for out, why in (("file", "File exists"), ("file/more", "Not a directory")):
        done = subprocess.run(
            [sys.executable, "-m", "dropclass_jax.compare", a, b, f"--out={tmp_path / out}"],
            capture_output=True, text=True, check=False,
        )  # fmt: skip
        said = f"error: --out={tmp_path / out} cannot be written: {why}; choose another\n"
        assert (done.returncode, done.stderr, done.stdout) == (2, said, "")


def test_a_copy_of_a_run_is_no_other_seed(tmp_path):
    """As of a folder that was kept: three runs that hardly vary would make any lead a sure one."""
    runs = [write(tmp_path / f"seed{seed}", 0.6, seed=seed) for seed in range(2)]
    copy = shutil.copytree(runs[0], tmp_path / "seed0_before")
    with pytest.raises(UserError, match=r"seed0 and .*seed0_before are runs of the same config, s"):
        compare.read(compare.expand([str(tmp_path)]), None, None, "sweep")
    for name in ("seed0", "seed1", "seed0_before"):  # of a file of weights that says other ones now
        config = json.loads((tmp_path / name / "config.json").read_text())
        weights = tmp_path / "w.json"
        weights.write_text('{"road": 2}')
        config["loss"] = {"class_weights": str(weights)}
        (tmp_path / name / "config.json").write_text(json.dumps(config))
        (tmp_path / name / "class_weights.json").write_text('{"road": 1}')
    with pytest.raises(UserError, match=r"seed0 and .*seed0_before are runs of the same config, s"):
        compare.read([runs[0], copy], None, None, "sweep")
    (copy / "class_weights.json").write_text('{"road": 3}')
    assert len(compare.read([runs[0], copy], None, None, "sweep").workdirs) == 2
    shutil.copy(runs[0] / "class_weights.json", copy)
    (copy / "data.json").write_text('{"fingerprint": "of other images"}')
    assert len(compare.read([runs[0], copy], None, None, "sweep").workdirs) == 2
    (copy / "data.json").unlink()
    (copy / "config.json").unlink()  # not to be told apart
    assert len(compare.read([*runs, copy], None, None, "sweep").workdirs) == 3


def test_counts_that_all_runs_have(tmp_path):
    a = write(tmp_path / "a", 0.6, heads=("plain", "drop"))
    b = write(tmp_path / "b", 0.7)
    both = common_counts([a, b])
    assert [list(run["val"]) for run in both] == [["drop", "plain"], ["plain"]]
    (b / "images.npz").unlink()
    assert common_counts([a, b]) == [{}, {}]


def test_a_sweep_s_runs_are_of_the_same_images_and_labels(tmp_path):
    """Of every head and split: else a table would set scores by different labels side by side."""
    a = write(tmp_path / "a", 0.6, heads=("plain", "drop"))
    b = write(tmp_path / "b", 0.7, heads=("plain", "drop"))
    arrays = dict(np.load(b / "images.npz"))
    assert [list(run) for run in common_counts([a, b])] == [["val"], ["val"]]
    for key, changed, how in (
        ("val/ids", arrays["val/ids"][::-1], "on different images"),
        ("val/drop/counts", counts_of([0.7], seed=1, classes=11)[0], "by different labels"),
        ("val/plain/counts", counts_of([0.7], seed=1, classes=11)[0], "by different labels"),
    ):
        np.savez(b / "images.npz", **{**arrays, key: changed})
        with pytest.raises(UserError, match=rf"/a and \S+/b were scored {how} of val; evaluate b"):
            common_counts([a, b])
    (b / "images.npz").unlink()  # as of an older version
    metrics = json.loads((b / "metrics.json").read_text())
    metrics["results"][-1]["pixels"][0] += 1  # of val_out, plain head
    (b / "metrics.json").write_text(json.dumps(metrics))
    with pytest.raises(UserError, match=r"a and \S+b were scored by different labels of val_out; "):
        common_counts([a, b])
