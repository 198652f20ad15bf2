"""Floating-point operations of a program, counted before any compiler sees it.

Exact on every machine, and the same on each. XLA's own count of a compiled program
(``cost_analysis``) takes the body of a loop once, however often it runs; here it counts as often.
What a convolution multiplies with padding or with the zeros of a dilated input is no operation.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterable, Iterator, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.extend.core import Var

# What moves numbers without computing any.
_MOVES = {
    "broadcast_in_dim", "concatenate", "convert_element_type", "copy", "copy_p",
    "dynamic_slice", "dynamic_update_slice", "gather", "iota", "pad",
    "reshape", "rev", "slice", "squeeze", "stop_gradient",
    "transpose", "bitcast_convert_type", "split", "expand_dims", "device_put",
    "optimization_barrier",
}  # fmt: skip


_PRODUCTS = ("conv_general_dilated", "dot_general")


class Work(NamedTuple):
    """What one equation of a program computes.

    Attributes:
      source: where it comes from, ending in what it is: ``jvp(Segmenter)/head/neck/conv/mul``.
      flops: its operations, over all times that it runs; a multiplication and an addition are two.
    """

    source: str
    flops: int

    @property
    def is_product(self) -> bool:
        """Whether it is a convolution or a matrix product: what a device has fast units for."""
        return self.source.endswith(_PRODUCTS)


def work(jaxpr: Any) -> list[Work]:
    """Count the operations of a traced program.

    Besides those of products, one is counted for every number that is computed or added up.

    Args:
      jaxpr: of ``jax.make_jaxpr(...)(...)`` or ``jax.jit(...).trace(...).jaxpr``.

    Returns:
      All that computes something. A loop counts as often as it runs; of an unknown number of times
      (``while_loop``) once, of several branches (``cond``) the longest, and of the forms that an
      operation has for platforms (``lax.platform_dependent``) the default.
    """
    return [one for one in _walk(jaxpr.jaxpr, "", 1) if one.flops]


def total(work: Iterable[Work]) -> int:
    """All operations."""
    return sum(one.flops for one in work)


def _walk(
    jaxpr: Any, prefix: str, times: int, wanted: Sequence[bool] | None = None
) -> Iterator[Work]:
    for equation, wanted_of_it in _used(jaxpr, wanted):
        name = equation.primitive.name
        source = "/".join(filter(None, (prefix, str(equation.source_info.name_stack))))
        inner = list(_inner(equation))
        platforms = equation.params.get("branches_platforms")
        if platforms:  # forms of one operation: its own work, not what a form adds to it
            plain = next(i for i, of in enumerate(platforms) if of is None)
            yield from _walk(inner[plain], source, times, wanted_of_it)
        elif name == "cond":
            branches = [list(_walk(branch, source, times, wanted_of_it)) for branch in inner]
            yield from max(branches, key=total)
        elif inner:
            called = "/".join(filter(None, (source, str(equation.params.get("name", "")))))
            often = times * (equation.params["length"] if name == "scan" else 1)
            for program in inner:
                yield from _walk(program, called, often)
        else:
            count = {"conv_general_dilated": _convolution, "dot_general": _product}
            yield Work(f"{source}/{name}", times * count.get(name, _numbers)(equation))


def _used(jaxpr: Any, wanted: Sequence[bool] | None) -> list[tuple[Any, list[bool]]]:
    """The equations whose results are used, and which of them: differentiating leaves others.

    Args:
      jaxpr: a program.
      wanted: which of its own results are used; None for all.
    """
    results = jaxpr.outvars if wanted is None else itertools.compress(jaxpr.outvars, wanted)
    needed = {var for var in results if isinstance(var, Var)}
    used = []
    for equation in reversed(jaxpr.eqns):
        wanted_of_it = [var in needed for var in equation.outvars]
        if equation.effects or any(wanted_of_it):
            needed.update(var for var in equation.invars if isinstance(var, Var))
            used.append((equation, wanted_of_it))
    return used


def _inner(equation: Any) -> Iterator[Any]:
    """The programs inside an equation, such as a loop's body."""
    for value in equation.params.values():
        for item in value if isinstance(value, (tuple, list)) else (value,):
            item = getattr(item, "jaxpr", item)
            if hasattr(item, "eqns"):
                yield item


def _product(equation: Any) -> int:
    (contracted, _), _ = equation.params["dimension_numbers"]
    left, out = equation.invars[0].aval.shape, equation.outvars[0].aval.shape
    return 2 * math.prod(out) * math.prod(left[axis] for axis in contracted)


def _convolution(equation: Any) -> int:
    """2 for each pair of an output and an input with a weight in between, both inside the map."""
    params = equation.params
    numbers = params["dimension_numbers"]
    image, kernel = (var.aval.shape for var in equation.invars)
    out = equation.outvars[0].aval.shape
    batch, features, *_ = numbers.out_spec
    pairs = 2 * out[batch] * out[features] * kernel[numbers.rhs_spec[1]]  # inputs of a group
    for i, padding in enumerate(params["padding"]):
        pairs *= _taps(
            image[numbers.lhs_spec[2 + i]],
            kernel[numbers.rhs_spec[2 + i]],
            out[numbers.out_spec[2 + i]],
            stride=params["window_strides"][i],
            before=padding[0],
            spread=params["lhs_dilation"][i],
            dilation=params["rhs_dilation"][i],
        )
    return pairs


def _taps(
    size: int, taps: int, out: int, *, stride: int, before: int, spread: int, dilation: int
) -> int:
    """Along one axis: the pairs of an output and a tap of the kernel that meet an input."""
    at = np.arange(out)[:, None] * stride + np.arange(taps) * dilation - before
    inside = (at >= 0) & (at < (size - 1) * spread + 1) & (at % spread == 0)
    return int(inside.sum())


def _numbers(equation: Any) -> int:
    """How many floating-point numbers it computes, or, of a sum, adds up."""
    if equation.primitive.name in _MOVES:
        return 0
    sizes = [
        math.prod(var.aval.shape)
        for var in (*equation.invars, *equation.outvars)
        if jnp.issubdtype(getattr(var.aval, "dtype", jnp.int32), jnp.floating)
        and not jax.dtypes.issubdtype(var.aval.dtype, jax.dtypes.extended)
    ]
    return max(sizes, default=0)
