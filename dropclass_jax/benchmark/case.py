"""What is measured: a network, a size and a dtype, with the training step of each variant."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Iterator, Sequence
from concurrent import futures
from functools import partial
from typing import Any, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax

from dropclass_jax import cores, models, schedules
from dropclass_jax.benchmark import flops, hlo, naive
from dropclass_jax.benchmark.timing import Run
from dropclass_jax.losses import Loss, pixels
from dropclass_jax.models.variables import init_variables
from dropclass_jax.ops import cpu_compiler
from dropclass_jax.ops.labels import IGNORE_LABEL
from dropclass_jax.training import optimizers, state, step
from dropclass_jax.training.recipe import Recipe

DTYPES = {"float32": jnp.float32, "bfloat16": jnp.bfloat16}

# The variants of a step, as keyword arguments of DropClass. The last two are what it costs without
# its two vectors of weights: the general path, which adds up the K maps one by one, and all of them
# at once.
_DROPCLASS = {
    "plain": None,
    "dropclass": {},
    "class by class": {"importance": "position"},
    "K maps": {"importance": "position"},
}
VARIANTS = tuple(_DROPCLASS)

# ImageNet's, on the scale 0 to 1.
IMAGE_MEAN, IMAGE_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)

_TOTAL_STEPS = 1000


@dataclasses.dataclass(frozen=True)
class Case:
    """One row of the benchmark.

    Attributes:
      model: a name of ``models.names()``.
      height, width: of the crops, in pixels.
      batch: crops a step.
      dtype: compute dtype, one of ``DTYPES``.
      classes: K.
    """

    model: str
    height: int
    width: int
    batch: int
    dtype: str = "float32"
    classes: int = 19

    def __str__(self) -> str:
        return f"{self.model}, {self.batch} x {self.height} x {self.width}, {self.dtype}"

    @property
    def size(self) -> tuple[int, int]:
        """``(height, width)``."""
        return self.height, self.width


class Settings(NamedTuple):
    """How a training step uses memory.

    Attributes:
      remat: the backbone's blocks are computed again in the backward pass (``model.remat``).
      donate: the step takes the memory of the old state for the new one.
      block_bytes: of the upsampled logits that the loss has at a time; None for what suits the
        device, see ``losses.upsampled``.
    """

    remat: bool = False
    donate: bool = True
    block_bytes: int | None = None


DEFAULT = Settings()


class Program(NamedTuple):
    """A compiled training step.

    Attributes:
      step: ``(state, batch) -> (state, scalars)``; it takes the old state's memory.
      work: its operations, counted in the program as it was traced.
    """

    step: jax.stages.Compiled
    work: tuple[flops.Work, ...]

    @property
    def flops(self) -> int:
        """All operations of a step."""
        return flops.total(self.work)

    @property
    def kernels(self) -> list[hlo.Kernel]:
        """What the compiled step runs."""
        return hlo.kernels(self.step.as_text())


def network(case: Case, variant: str, **settings: Any) -> nn.Module:
    """The network of a variant; ``settings`` as of ``models.create``."""
    model = models.create(
        case.model,
        case.classes,
        dropclass=_DROPCLASS[variant],
        dtype=DTYPES[case.dtype] if case.dtype != "float32" else None,
        **settings,
    )
    if variant == "K maps":
        model = model.clone(dropclass={**model.dropclass, "average": naive.average_features})
    return model


def _learning_rate() -> optax.Schedule:
    return schedules.poly(0.004, _TOTAL_STEPS)


def _optimizer() -> optax.GradientTransformation:
    return optimizers.create("sgd", _learning_rate())


def train_step(
    case: Case, variant: str, axis_name: str | None = None, settings: Settings = DEFAULT
) -> Any:
    """A training step of the reference's recipe, SGD and linear schedules: ``step.train_step``."""
    ramp = partial(schedules.ramp, "linear", total_steps=_TOTAL_STEPS)
    coefficients = step.Coefficients(
        ramp(start=1, end=0), ramp(start=0, end=1), optax.constant_schedule(10.0)
    )
    return partial(
        step.train_step,
        recipe=Recipe(
            network(case, variant, axis_name=axis_name, remat=settings.remat),
            _optimizer(),
            Loss(partial(pixels.cross_entropy, block_bytes=settings.block_bytes)),
            axis_name=axis_name,
        ),
        learning_rate=_learning_rate(),
        image_mean=jnp.asarray(IMAGE_MEAN),
        image_std=jnp.asarray(IMAGE_STD),
        dropclass=None if variant == "plain" else (coefficients, step.Draw(jnp.ones(case.classes))),
    )


def new_state(case: Case, variant: str) -> state.TrainState:
    """A state in the middle of training, where lambda and p are one half."""
    # Its own arrays: a step takes them.
    return jax.tree.map(jnp.copy, _initial_state(case, variant != "plain"))


@functools.cache
def _initial_state(case: Case, dropclass: bool) -> state.TrainState:
    model = network(case, "dropclass" if dropclass else "plain")
    variables = init_variables(model, jax.random.key(0))
    fresh = state.from_variables(variables, _optimizer())
    return fresh.replace(step=jnp.int32(_TOTAL_STEPS // 2))


def state_shapes(case: Case, variant: str) -> Any:
    """The shapes of a state, without making one."""
    model = network(case, variant)

    def make(key: jax.Array) -> state.TrainState:
        return state.from_variables(model.init(key, jnp.zeros((1, 64, 64, 3))), _optimizer())

    return jax.eval_shape(make, jax.random.key(0))


def batch_shapes(case: Case) -> dict[str, jax.ShapeDtypeStruct]:
    """The shapes of ``random_batch``."""
    shape = (case.batch, *case.size)
    return {
        "image": jax.ShapeDtypeStruct((*shape, 3), jnp.uint8),
        "label": jax.ShapeDtypeStruct(shape, jnp.uint8),
    }


def random_batch(case: Case) -> dict[str, np.ndarray]:
    """Noise, every tenth pixel ignored: the time of a step does not depend on what it sees."""
    rng = np.random.default_rng(0)
    shape = (case.batch, *case.size)
    labels = rng.integers(0, case.classes, shape, dtype=np.uint8)
    labels[rng.uniform(size=shape) < 0.1] = IGNORE_LABEL
    return {"image": rng.integers(0, 256, (*shape, 3), dtype=np.uint8), "label": labels}


def compiled_step(case: Case, variant: str, settings: Settings = DEFAULT) -> Program:
    """The training step of a variant on one device, compiled once for all sections."""
    return _compiled_step(case, variant, settings)


@functools.cache
def _compiled_step(case: Case, variant: str, settings: Settings) -> Program:
    donated = (0,) if settings.donate else ()
    jitted = jax.jit(train_step(case, variant, settings=settings), donate_argnums=donated)
    traced = jitted.trace(state_shapes(case, variant), batch_shapes(case), jax.random.key(0))
    compiled = cpu_compiler.compile_step(traced.lower())
    return Program(compiled, tuple(flops.work(traced.jaxpr)))


_CORES_A_COMPILATION = 4  # XLA uses several for a GPU's program, about one for a CPU's


def compile_side_by_side(case: Case, steps: Sequence[tuple[str, Settings]]) -> None:
    """Compile several steps at once where there are the cores: ``compiled_step`` then has them.

    A step that cannot be compiled fails where it is asked for. On few cores nothing is done: one
    after the other takes as long, and the first results would wait for the last compilation.
    """
    workers = min(len(cores.usable()) // _CORES_A_COMPILATION, len(steps))
    if workers > 1:
        with futures.ThreadPoolExecutor(workers) as pool:
            futures.wait([pool.submit(compiled_step, case, *step) for step in steps])


def run_of(case: Case, variant: str, settings: Settings = DEFAULT) -> Run:
    """A training step to be timed, which goes on from where it was."""
    program = compiled_step(case, variant, settings).step
    batch = jax.device_put(random_batch(case))
    states = iterate(program, new_state(case, variant), batch)

    def run(calls: int) -> None:
        for _ in range(calls):
            scalars = next(states)
        jax.block_until_ready(scalars)

    return run


def iterate(program: Any, current: state.TrainState, batch: Any) -> Iterator[dict[str, jax.Array]]:
    """The scalars of step after step on the same batch."""
    key = jax.random.key(0)
    while True:
        current, scalars = program(current, batch, key)
        yield scalars
