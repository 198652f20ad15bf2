"""The benchmark counts and divides rightly, every section runs, and a failing one is a line."""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import json
import signal
import subprocess
import sys
import threading
from functools import partial
from importlib.machinery import ModuleSpec
from types import ModuleType, SimpleNamespace

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax

from dropclass_jax import dropclass
from dropclass_jax.benchmark import __main__ as benchmark
from dropclass_jax.benchmark import (
    against_torch,
    aims,
    breakdown,
    case,
    flops,
    fresh_process,
    hardware,
    hlo,
    memory,
    naive,
    peak_memory,
    settings,
    side,
    text,
    timing,
)
from dropclass_jax.benchmark.section import Options, Skipped, Work
from dropclass_jax.data_tools import bench
from dropclass_jax.errors import UserError

TINY = case.Case("tiny", 32, 48, batch=2)
NHWC = ("NHWC", "HWIO", "NHWC")


class TestTiming:
    @pytest.fixture
    def runs(self, monkeypatch):
        """Two functions that take 0.5 and 0.05 seconds a call, by a clock that they move."""
        clock, calls = [0.0], []
        monkeypatch.setattr(timing.time, "perf_counter", lambda: clock[0])

        def of(name, seconds):
            def run(n):
                calls.append((name, n))
                clock[0] += n * seconds

            return run

        return {"a": of("a", 0.5), "b": of("b", 0.05)}, calls

    def test_turns_alternate_and_are_filled(self, runs):
        functions, calls = runs
        seconds = timing.in_turns(functions, 3, least_seconds=0.2)
        np.testing.assert_allclose(seconds["a"], [0.5] * 3)
        np.testing.assert_allclose(seconds["b"], [0.05] * 3)
        warm = [("a", 1), ("a", 1), ("b", 1), ("b", 1)]
        a, b = ("a", 1), ("b", 4)  # four calls of b fill the turn
        assert calls == [*warm, a, b, b, a, a, b]

    def test_what_a_function_takes_is_measured_by_itself(self, runs, monkeypatch):
        functions, calls = runs
        monkeypatch.setattr(timing.time, "process_time", lambda: len(calls))
        assert timing.timed(functions["a"])(3) == timing.Spent(wall=1.5, cpu=1)
        elsewhere = {"a": lambda calls: timing.Spent(2.0 * calls, 3.0 * calls)}
        assert timing.spent_in_turns(elsewhere, 2, least_seconds=10) == {"a": [(2, 3)] * 2}

    def test_summary(self):
        found = timing.summary([5.0, 1.0, 2.0, 4.0, 30.0])
        assert (found["median"], found["quartiles"]) == (4, [2, 5])
        assert (found["lowest"], found["highest"]) == (1, 30)
        assert found["all"] == [5, 1, 2, 4, 30]

    def test_a_ratio_is_of_the_same_turn(self):
        # The machine was ten times as slow in the second turn, for both.
        assert timing.ratio([2.0, 20.0, 2.2], [1.0, 10.0, 1.0])["all"] == [2, 2, 2.2]


class TestFlops:
    def count(self, function, *shapes):
        """``(of products, of all else)``."""
        arrays = [jax.ShapeDtypeStruct(shape, jnp.float32) for shape in shapes]
        return self.sums(jax.jit(function).trace(*arrays))

    def sums(self, traced):
        found = flops.work(traced.jaxpr)
        products = flops.total(work for work in found if work.is_product)
        return products, flops.total(found) - products

    def test_a_product(self):
        assert self.count(lambda a, b: a @ b, (3, 5), (5, 7)) == (2 * 3 * 5 * 7, 0)
        batched = self.count(lambda a, b: jnp.einsum("bij,bjk->bik", a, b), (4, 3, 5), (4, 5, 7))
        assert batched == (4 * 2 * 3 * 5 * 7, 0)

    def test_sums_and_elementwise(self):
        assert self.count(lambda x: jnp.sum(jnp.exp(x)), (6, 7)) == (0, 42 + 42)
        assert self.count(lambda x: x.T.reshape(-1), (6, 7)) == (0, 0)

    def test_a_loop_counts_as_often_as_it_runs(self):
        def loop(x, w):
            return lax.scan(lambda x, _: (x @ w, None), x, None, length=10)[0]

        assert self.count(loop, (4, 4), (4, 4))[0] == 10 * 2 * 4**3

    def test_of_two_branches_the_longer(self):
        def branch(x, w):
            return lax.cond(x[0, 0] > 0, lambda: x @ w @ w, lambda: x + w)

        assert self.count(branch, (4, 4), (4, 4))[0] == 2 * 2 * 4**3

    def test_what_is_not_used_is_not_counted(self):
        # Of a linear function the derivative needs no value.
        def backward(x, w, ct):
            return jax.vjp(jnp.matmul, x, w)[1](ct)

        assert self.count(backward, (3, 5), (5, 7), (3, 7))[0] == 2 * 2 * 3 * 5 * 7

    def test_padding_is_no_operation(self):
        def conv(x, w):
            padding = ((1, 1), (1, 1))
            return lax.conv_general_dilated(x, w, (1, 1), padding, dimension_numbers=NHWC)

        # Along 4 and along 5 pixels: a 3-tap kernel meets 10 and 13 of them.
        expected = 2 * (2 * 6 * 7) * 10 * 13
        assert self.count(conv, (2, 4, 5, 6), (3, 3, 6, 7))[0] == expected

    @pytest.mark.parametrize(
        ("stride", "dilation", "groups"), [(1, 1, 1), (2, 1, 1), (1, 2, 1), (1, 1, 8), (2, 1, 8)]
    )
    def test_convolutions_and_their_derivatives_as_xla_counts_them(self, stride, dilation, groups):
        def conv(x, w):
            return lax.conv_general_dilated(
                x, w, (stride, stride), ((dilation, dilation),) * 2,
                rhs_dilation=(dilation, dilation),
                dimension_numbers=NHWC,
                feature_group_count=groups,
            )  # fmt: skip

        def backward(x, w):
            return jax.grad(lambda x, w: jnp.sum(conv(x, w) ** 2), argnums=(0, 1))(x, w)

        x, w = jnp.ones((2, 10, 14, 8)), jnp.ones((3, 3, 8 // groups, 16))
        for function in (conv, backward):
            traced = jax.jit(function).trace(x, w)
            theirs = traced.lower().cost_analysis()["flops"]
            products, others = self.sums(traced)
            # XLA counts a group's kernel gradient as if it were of all groups.
            if groups == 1 or function is conv:
                assert abs(products + others - theirs) <= others
                assert products > 0.8 * theirs

    def test_a_training_step_as_xla_counts_it(self, named_tiny):
        step = jax.jit(case.train_step(TINY, "dropclass"))
        shapes = case.state_shapes(TINY, "dropclass"), case.batch_shapes(TINY)
        traced = step.trace(*shapes, jax.random.key(0))
        products, others = self.sums(traced)
        # As other platforms run it: without the forms that a CPU has of its own.
        lowered = traced.lower(lowering_platforms=("tpu",))
        assert abs((products + others) / lowered.cost_analysis()["flops"] - 1) < 0.05
        assert products > 0.5 * others
        sources = {breakdown.purpose(work.source) for work in flops.work(traced.jaxpr)}
        assert {"forward, backbone: products", "backward, refine: norm"} <= sources


class TestTraffic:
    def kernels(self, function, *arrays):
        compiled = jax.jit(function).lower(*arrays).compile()
        return hlo.kernels(compiled.as_text()), compiled.cost_analysis()["bytes accessed"]

    def test_as_xla_counts_it(self):
        kernels, theirs = self.kernels(
            lambda a, b: jnp.sum(jnp.tanh(a @ b) * 2), jnp.ones((64, 32)), jnp.ones((32, 16))
        )
        assert sum(k.bytes for k in kernels) == theirs
        assert kernels[0].source.endswith("dot_general")

    def test_a_loop_counts_as_often_as_it_runs_and_slices_alone(self):
        def loop(rows, w):
            return lax.map(lambda row: jnp.tanh(row @ w), rows)

        rows, w = jnp.ones((50, 8, 64)), jnp.ones((64, 64))
        kernels, _ = self.kernels(loop, rows, w)
        (product,) = (k for k in kernels if k.source.endswith("dot_general"))
        assert product.times == 50
        assert product.bytes == 50 * (8 * 64 + 64 * 64 + 8 * 64) * 4
        # Each round reads and writes one of 50 rows: a few times the array in all, not 50 times.
        assert sum(k.bytes for k in kernels) - product.bytes < 10 * rows.nbytes

    @pytest.mark.parametrize(
        ("source", "place"),
        [
            ("jit(s)/jvp(Segmenter)/backbone/stem1/norm/sub", "forward, backbone: norm"),
            (
                "jit(s)/transpose(jvp(Segmenter))/head/jit(_resize)/dot_general",
                "backward, head: resizing",
            ),
            (
                "jit(s)/transpose(jvp(Segmenter))/refine/conv/dot_general",
                "backward, refine: products",
            ),
            ("jit(s)/jvp()/reduce_sum", "forward, loss: elementwise"),
            ("jit(s)/mul", "optimizer, draws and the record"),
            ("", "added by the compiler (copies)"),
        ],
    )
    def test_places(self, source, place):
        assert breakdown.purpose(source) == place


def test_the_naive_way_computes_the_same():
    rng = np.random.default_rng(0)
    with jax.enable_x64(True):
        features, kernel = rng.standard_normal((2, 3, 4, 6)), rng.standard_normal((6, 5))
        tiles = np.ones((2, 1, 2, 5))
        tiles[:, :, 1, 3] = 0
        masks = (np.array([1, 1, 0, 1, 1.0]), np.array([[1, 1, 1, 1, 1.0], [0, 1, 1, 1, 1]]), tiles)
        for keep in map(jnp.asarray, masks):
            for stop in (False, True):

                def average(function, features, kernel, keep=keep, stop=stop):
                    classifier = lambda a: jnp.tanh(a @ kernel)  # noqa: E731
                    return function(features, classifier, keep, stop_gradient=stop)

                def both(function):
                    ours = jax.vjp(partial(average, function), features, kernel)
                    return ours[0], *ours[1](jnp.cos(features))

                naively, ours = both(naive.average_features), both(dropclass.average_features)
                for one, other in zip(naively, ours, strict=True):
                    np.testing.assert_allclose(one, other, rtol=1e-12, atol=1e-14)


def test_rematerialisation_keeps_less_and_dropclass_more(named_tiny, monkeypatch):
    larger = dataclasses.replace(TINY, height=64, width=96)
    plain, ours = (memory.kept_bytes(larger, variant) for variant in ("plain", "dropclass"))
    assert plain < ours
    # One more batch of crops: everything but the parameters doubles.
    twice = memory.kept_bytes(dataclasses.replace(larger, batch=4), "plain")
    assert 1.8 * plain < twice <= 2 * plain


def test_the_peak_of_some_work():
    found = peak_memory.peak_increase(lambda: np.ones(2**25, np.uint8).sum())
    if found is None:
        pytest.skip("this system does not tell")
    # The kernel counts pages in bundles, a few dozen for each core.
    assert 0.95 * 2**25 <= found < 2**26


def test_aims():
    assert aims.judged("flops", 1.05) == {"aim": 1.10, "found": 1.05, "met": True}
    missed = aims.line("temporary_bytes", aims.judged("temporary_bytes", 1.2))
    assert missed == "temporary bytes 1.20 x, aim 1.15 x: not met"


def test_numbers_for_people():
    assert [text.seconds(s) for s in (0.0123, 1.234)] == ["12.3 ms", "1.23 s"]
    assert text.percent(0.123) == "12 %"


CANNED = {"devices": 1, "first_step_seconds": 3.0, "compile_seconds": 2.0, "step_seconds": [1, 2.0]}


@pytest.fixture
def quickly():
    """Compiling is most of the cost, and LLVM's optimisation most of the compiling."""
    jax.config.update("jax_disable_most_optimizations", True)
    yield
    jax.config.update("jax_disable_most_optimizations", False)


@contextlib.contextmanager
def started(name, case, allocator, torch_compile=None):
    """Two sides that take as long as told; PyTorch slows down when its allocator is tuned."""
    wall = {"ours": {"tuned": 2, "default": 4}, "torch": {"tuned": 10, "default": 8}}
    details = {"ours": {"threads": 1}, "torch": {"threads": 2, "way": "fast", "tried": {}}}
    yield SimpleNamespace(
        prepare=lambda kind: None,
        choose=lambda: details[name],
        spend=lambda n: timing.Spent(n * wall[name][allocator], 3 * n * wall[name][allocator]),
        peak=lambda: 2**20,
    )


@pytest.fixture
def everything(named_tiny, monkeypatch, quickly):
    """All sections on the tiny network; processes of their own answer at once."""
    sizes = {"camvid": bench.Size((40, 60), ".png", (), (24, 32), images=5, length=12)}
    monkeypatch.setattr(bench, "SIZES", sizes)
    monkeypatch.setattr(timing, "LEAST_SECONDS", 0)
    monkeypatch.setattr(hardware, "_CPU", (64, 2**12))
    monkeypatch.setattr(side, "started", started)
    installed = ModuleType("torch")  # or there is nothing to compare with where it is not
    installed.__spec__ = ModuleSpec("torch", None)
    monkeypatch.setitem(sys.modules, "torch", installed)
    others = {
        "small blocks": case.Settings(block_bytes=2**12),
        "without donation": case.Settings(remat=True, donate=False),
    }
    monkeypatch.setattr(settings, "SETTINGS", others)
    asked = []
    monkeypatch.setattr(
        fresh_process, "ask", lambda *args, **kwargs: asked.append((args, kwargs)) or CANNED
    )
    return asked


def test_every_section(everything, capsys):
    results = list(benchmark.measured([TINY], list(benchmark.SECTIONS), Options(repeats=2)))
    assert json.loads(json.dumps(results)) == results
    assert [r["section"] for r in results] == list(benchmark.SECTIONS)
    found = {r["section"]: r.get("result") for r in results}
    assert [r.get("error") for r in results] == [None] * len(results)

    variants = found["cost"]["variants"]
    assert list(variants) == list(case.VARIANTS)
    work = {name: one["flops"] for name, one in variants.items()}
    assert work["plain"] < work["dropclass"] < work["K maps"]
    assert work["dropclass"] < work["class by class"]
    assert variants["K maps"]["temporary_bytes"] > variants["class by class"]["temporary_bytes"]
    assert found["cost"]["aims"]["flops"]["found"] == work["dropclass"] / work["plain"]

    steps = found["steps"]["variants"]
    assert list(steps) == list(case.VARIANTS)
    assert steps["plain"]["times_plain"]["all"] == [1, 1]
    assert all(one["seconds"]["lowest"] > 0 for one in steps.values())
    ratio = steps["dropclass"]["times_plain"]["median"]
    assert found["steps"]["aims"]["seconds"]["met"] == (ratio <= 1.12)

    parts = found["hardware"]["variants"]["dropclass"]
    assert parts["flops"] == work["dropclass"]
    assert parts["bound"] in ("arithmetic", "traffic")
    for quantity in ("flops", "moved_bytes"):
        in_places = sum(place[quantity] for place in found["cost"]["places"])
        assert in_places == variants["dropclass"][quantity] == parts[quantity]

    assert 0 <= found["pipeline"]["waiting_share"]["median"] <= 1
    assert found["pipeline"]["images"] == "camvid"
    for name in ("plain, whole image", "dropclass, whole image", "dropclass, sliding window"):
        assert found["eval"][name]["images_per_second"]["median"] > 0
    assert found["checkpoint"]["written"]["lowest"] >= found["checkpoint"]["blocked"]["lowest"] > 0
    assert found["memory"]["plain"]["none"] < found["memory"]["dropclass"]["none"]

    default = found["settings"]["default"]
    assert default["times_default"]["all"] == [1, 1]
    assert found["settings"]["small blocks"]["times_default"]["lowest"] > 0
    assert found["settings"]["without donation"]["peak_bytes"] > default["peak_bytes"]

    assert found["compile"]["cold"]["compile_seconds"]["median"] == 2
    assert found["scaling"]["1"]["images_per_second"]["all"] == [8, 4]
    folders = {kwargs["environment"]["JAX_COMPILATION_CACHE_DIR"] for _, kwargs in everything[:3]}
    assert len(folders) == 1
    flags = [args[3]["XLA_FLAGS"] for args, _ in everything[3:]]
    assert [flag.split("=")[-1] for flag in flags] == ["1", "8"]

    pairs = found["torch"]["plain"]["pairs"]
    ratios = {name: pair["times_faster"]["median"] for name, pair in pairs.items()}
    assert ratios == {"both tuned": 5, "both default": 2, "each its own": 4}
    theirs = found["torch"]["dropclass"]["sides"]["torch, default"]
    assert (theirs["seconds"]["all"], theirs["cpu_seconds"]["median"]) == ([8, 8], 24)

    table = benchmark.report(results)
    for module in benchmark.SECTIONS.values():
        assert f"== {module.TITLE} ==" in table
    assert "flops" in table
    assert "aim 1.12 x" in table
    assert "threads: ours 1, PyTorch 2" in table
    assert len(capsys.readouterr().err.splitlines()) == len(results)


def test_without_pytorch_there_is_a_line(monkeypatch):
    monkeypatch.setitem(sys.modules, "torch", None)
    results = list(benchmark.measured([TINY], ["torch"], Options()))
    assert "error" not in results[0]
    assert "PyTorch is not installed: pip install torch" in benchmark.report(results)


def test_a_section_that_fails_is_a_line_and_the_others_go_on(named_tiny, monkeypatch):
    def out_of_memory(case, options):
        raise jax.errors.JaxRuntimeError("RESOURCE_EXHAUSTED: out of memory\nmore")

    monkeypatch.setattr(benchmark.SECTIONS["steps"], "measure", out_of_memory)
    results = list(benchmark.measured([TINY], ["steps", "memory"], Options()))
    assert results[0]["error"].endswith("RESOURCE_EXHAUSTED: out of memory")
    assert "RESOURCE_EXHAUSTED: out of memory" in benchmark.report(results)
    assert results[1]["result"]["plain"]["none"] > 0


class SlowSide(side.Side):
    """Is ready at once, goes on until it is stopped, or fails, by the kind of work."""

    def __init__(self, kinds):
        super().__init__(self.make)
        self.stopped, self.kinds = threading.Event(), kinds

    def make(self, kind):
        self.kinds.append(kind)
        if kind == "dropclass":
            assert self.stopped.wait(60)
            raise RuntimeError("killed")
        if kind == "forward":
            raise RuntimeError("out of memory")
        return lambda: Work(lambda calls: None, lambda: 1, {"threads": 1, "way": "fast"})

    def stop(self):
        self.stopped.set()


def test_what_is_prepared_at_once_is_compared_if_it_is_ready_in_time(everything, monkeypatch):
    kinds, sides = [], []

    def started(*arguments):
        sides.append(SlowSide(kinds))
        return contextlib.nullcontext(sides[-1])

    monkeypatch.setattr(side, "started", started)
    options = Options(repeats=2, quick=True, at_once=0.5)
    (found,) = benchmark.measured([TINY], ["torch"], options)
    assert found["result"].keys() == {"cores", "plain", "missing"}
    assert found["result"]["missing"] == {
        "dropclass": "not ready after 0 s: torch tuned, ours tuned",
        "forward": "out of memory",
    }
    assert sorted(kinds) == sorted(against_torch.KINDS * 2)
    assert [one.stopped.is_set() for one in sides] == [False, False, True, True, False, False]
    table = benchmark.report([found])
    assert "plain step" in table
    assert "forward: out of memory" in table


def test_what_is_prepared_at_once_ends_when_the_benchmark_is_stopped(everything, monkeypatch):
    def wait(*arguments, **options):
        raise KeyboardInterrupt

    sides = []

    def started(*arguments):
        sides.append(SlowSide([]))
        return contextlib.nullcontext(sides[-1])

    monkeypatch.setattr(side, "started", started)
    monkeypatch.setattr(against_torch.futures, "wait", wait)
    measured = benchmark.measured([TINY], ["torch"], Options(quick=True, at_once=60))
    assert next(measured)["result"].keys() == {"cores"}
    assert all(one.stopped.is_set() for one in sides)


def test_a_section_that_is_stopped_keeps_what_it_has(everything, monkeypatch):
    taken = []

    def until_the_second(*arguments):
        if taken:
            raise KeyboardInterrupt
        taken.append(compare(*arguments))
        return taken[0]

    compare = against_torch._compare
    monkeypatch.setattr(against_torch, "_compare", until_the_second)
    measured = benchmark.measured([TINY], ["torch", "memory"], Options(repeats=2))
    stopped = next(measured)
    with pytest.raises(KeyboardInterrupt):
        next(measured)
    assert (stopped["section"], stopped["stopped"]) == ("torch", True)
    assert stopped["result"].keys() == {"cores", "plain"}
    table = benchmark.report([stopped])
    assert "plain step" in table
    assert "stopped; there would have been more" in table


def test_a_benchmark_that_is_stopped_writes_what_it_has(tmp_path):
    """As ``timeout`` stops it; the first section is there, and the second is not."""
    program = (
        "import os, runpy, signal; from dropclass_jax.benchmark import cost, steps; "
        "cost.measure = lambda *_: {'fine': 1}; "
        "cost.lines = lambda results: [str(r) for _, r in results]; "
        "steps.measure = lambda *_: os.kill(os.getpid(), signal.SIGTERM); "
        "runpy.run_module('dropclass_jax.benchmark', run_name='__main__', alter_sys=True)"
    )
    out = tmp_path / "out.json"
    options = ["--only=cost,steps,memory", f"--out={out}", "--model=hrnet_w18_small_v1"]
    command = [sys.executable, "-c", program, *options]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 128 + signal.SIGTERM, done.stderr
    assert "stopped by SIGTERM; all numbers are in" in done.stderr
    first, second = json.loads(out.read_text())["sections"]
    assert first["result"] == {"fine": 1}
    assert second["error"] == "stopped before there was a result"
    assert "{'fine': 1}" in done.stdout
    assert "Traceback" not in done.stderr


def test_steps_compiled_side_by_side(monkeypatch):
    """Where there are the cores, in as many threads, and found when they are asked for."""
    compiled = []
    monkeypatch.setattr(
        case, "_compiled_step", functools.cache(lambda *step: compiled.append(step))
    )
    steps = [("plain", case.DEFAULT), ("dropclass", case.Settings(remat=True))]
    monkeypatch.setattr(case.cores, "usable", lambda: [0, 1])
    case.compile_side_by_side(TINY, steps)
    assert compiled == []
    monkeypatch.setattr(case.cores, "usable", lambda: range(8))
    case.compile_side_by_side(TINY, steps)
    case.compiled_step(TINY, "plain")
    assert sorted(step[1] for step in compiled) == ["dropclass", "plain"]


def test_a_step_over_all_devices(named_tiny, quickly):
    """What a process of its own does, in this one, of eight devices."""
    eight = dataclasses.asdict(dataclasses.replace(TINY, batch=8))
    found = fresh_process.answer({"case": eight, "variant": "dropclass", "steps": 2})
    assert (found["devices"], len(found["step_seconds"])) == (jax.device_count(), 2)


def test_a_process_of_its_own(monkeypatch):
    says = "import json, sys, os; r = json.loads(sys.argv[1]); print('noise'); "
    answer = (
        "print(json.dumps({'first_step_at': 1e12, 'asked': r, 'set': os.environ['SET_BY_US']}))"
    )
    monkeypatch.setattr(fresh_process, "COMMAND", (sys.executable, "-c", says + answer))
    found = fresh_process.ask(TINY, "plain", 3, {"SET_BY_US": "yes"})
    assert (found["asked"]["variant"], found["asked"]["steps"], found["set"]) == ("plain", 3, "yes")
    assert case.Case(**found["asked"]["case"]) == TINY
    assert found["first_step_seconds"] > 0
    monkeypatch.setattr(fresh_process, "COMMAND", (sys.executable, "-c", "raise OSError('boom')"))
    with pytest.raises(Skipped, match="OSError: boom"):
        fresh_process.ask(TINY, "plain")


def test_a_side_answers_what_it_is_asked():
    def prepare(kind):
        if kind == "none":
            raise Skipped("there is none")
        return lambda: Work(lambda calls: 1 / calls, lambda: 7, {"kind": kind})

    asked = [["prepare", "plain"], ["choose"]]
    asked += [["spend", 3], ["peak"], ["spend", 0], ["prepare", "none"]]
    answers = side.answer(lambda: side.Side(prepare), (json.dumps(a) for a in asked))
    ready, done, spent, peak, failed, skipped = map(json.loads, answers)
    assert ready == {"result": None}
    assert (done, peak) == ({"result": {"kind": "plain"}}, {"result": 7})
    assert len(spent["result"]) == 2
    assert failed == {"error": "ZeroDivisionError: division by zero"}
    assert skipped == {"skipped": "there is none"}


def test_a_side_in_a_process_of_its_own(monkeypatch):
    program = """if True:
        import json, sys
        request = json.loads(sys.argv[1])
        for line in sys.stdin:
            method, *arguments = json.loads(line)
            match method:
                case "prepare": asked = arguments; print('{"result": null}', flush=True)
                case "choose": print(json.dumps({"result": [request, asked]}), flush=True)
                case "spend": print(json.dumps({"skipped": "no"}), flush=True)
                case "peak": sys.exit("error: out of memory")
        """
    monkeypatch.setattr(side, "COMMAND", (sys.executable, "-c", program))
    with side.started("torch", TINY, "default") as remote:
        remote.prepare("forward")
        request, arguments = remote.choose()
        assert case.Case(**request.pop("case")) == TINY
        assert request == {"name": "torch", "allocator": "default", "torch_compile": None}
        assert arguments == ["forward"]
        with pytest.raises(Skipped, match="no"):
            remote.spend(1)
        with pytest.raises(RuntimeError, match="error: out of memory"):
            remote.peak()


def test_our_side(named_tiny, quickly):
    ours = side.local("ours", TINY)
    ours.prepare("forward")
    assert ours.choose().keys() == {"threads"}
    assert ours.spend(2).wall > 0
    assert ours.peak() is None or ours.peak() >= 0


GIVEN = {
    "model": [], "size": [], "batch": None, "dtype": None, "classes": 19, "repeats": 7,
    "at_once": None,
}  # fmt: skip


def test_what_is_measured_by_default():
    assert benchmark.chosen_cases(SimpleNamespace(**GIVEN)) == [
        case.Case("hrnet_w18_small_v1", 256, 512, 2, "float32", 19)
    ]
    assert benchmark.chosen_sections([]) == list(benchmark.SECTIONS)
    assert benchmark.chosen_sections(["eval", "cost"]) == ["cost", "eval"]


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"model": ["hrnet_w18_small"]}, "did you mean hrnet_w18_small_v"),
        ({"size": ["512"]}, "--size is H,W"),
        ({"size": ["512", "x"]}, "--size is H,W"),
        ({"batch": 0}, "--batch 0: want 1 or more"),
        ({"repeats": 0}, "--repeats 0: want 1 or more"),
    ],
)
def test_a_wrong_option_is_refused(given, message):
    with pytest.raises(UserError, match=message):
        benchmark.chosen_cases(SimpleNamespace(**{**GIVEN, **given}))
    with pytest.raises(UserError, match="did you mean steps"):
        benchmark.chosen_sections(["step"])


def test_some_of_the_cores(monkeypatch):
    kept = []
    monkeypatch.setattr(benchmark.os, "sched_getaffinity", lambda process: {3, 1, 2})
    monkeypatch.setattr(benchmark.os, "sched_setaffinity", lambda process, to: kept.append(to))
    benchmark.use_cores(None)
    benchmark.use_cores(2)
    assert kept == [[1, 2]]
    with pytest.raises(UserError, match="--cores 4: want 1 to 3"):
        benchmark.use_cores(4)
