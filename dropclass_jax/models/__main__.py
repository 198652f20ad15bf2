"""The table of networks in docs/networks.md: ``python -m dropclass_jax.models`` prints it.

Parameters and work of the plain networks, beside what their authors publish.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from dropclass_jax import models
from dropclass_jax.models.variables import init_shapes

IMAGE = (1024, 2048)  # pixels, as HRNet's authors count


class Published(NamedTuple):
    """Figures of the authors, None where they give none.

    Attributes:
      parameters: millions.
      multiply_adds: 2^30 of them at ``IMAGE``; the HRNet papers' "GFLOPs".
    """

    parameters: float | None = None
    multiply_adds: float | None = None


# (network, classes, auxiliary head, published): HRNet's segmentation code for Cityscapes, and
# torchvision's documentation of its weights for Pascal VOC's classes.
ROWS = (
    ("hrnet_w18_small_v1", 19, False, Published(1.5, 31.1)),
    ("hrnet_w18_small_v2", 19, False, Published(3.9, 71.6)),
    ("hrnet_w18", 19, False, Published()),
    ("hrnet_w32", 19, False, Published()),
    ("hrnet_w48", 19, False, Published(65.8, 696.2)),
    ("deeplab_v3_resnet50", 21, True, Published(42.0)),
    ("deeplab_v3_resnet101", 21, True, Published(61.0)),
    ("deeplab_v3_mobilenet_v3_large", 21, True, Published(11.0)),
    ("deeplab_v3_mobilenet_v3_small", 21, False, Published()),
    ("lr_aspp_mobilenet_v3_large", 21, False, Published(3.2)),
    ("lr_aspp_mobilenet_v3_small", 21, False, Published()),
    ("efficientnet_lite0", 19, False, Published()),
)


class Size(NamedTuple):
    """How large a network is.

    Attributes:
      parameters: their number.
      with_dropclass: their number with the refine block.
      multiply_adds: of all convolutions for one image of ``IMAGE``.
      flops: XLA's count of everything for the same, before it optimises.
    """

    parameters: int
    with_dropclass: int
    multiply_adds: int
    flops: float


def size(name: str, num_classes: int, auxiliary: bool) -> Size:
    """The size of one network, by tracing it."""
    counts = []
    for dropclass in (None, {}):
        model = models.create(name, num_classes, auxiliary=auxiliary, dropclass=dropclass)
        shapes = init_shapes(model)
        counts.append(sum(math.prod(leaf.shape) for leaf in jax.tree.leaves(shapes["params"])))

    # The auxiliary head is for training: what predicts does without.
    model = models.create(name, num_classes, dropclass=None)
    shapes = init_shapes(model)
    image = jax.ShapeDtypeStruct((1, *IMAGE, 3), jnp.float32)
    predict = jax.jit(lambda variables, image: model.apply(variables, image)["logits"])
    traced = predict.trace(shapes, image)
    flops = traced.lower().cost_analysis()["flops"]
    return Size(*counts, sum(_multiply_adds(traced.jaxpr.jaxpr)), flops)


def _multiply_adds(jaxpr: Any) -> Iterator[int]:
    """Multiplications in the convolutions of a program, 1x1 ones as matrix products included."""
    for equation in jaxpr.eqns:
        operation = equation.primitive.name
        if operation == "conv_general_dilated" or operation == "dot_general":
            kernel = equation.invars[1].aval.shape  # [kh, kw, in, out] or [in, out]
            yield math.prod(equation.outvars[0].aval.shape) * math.prod(kernel[:-1])
        if operation == "cond":  # forms of one operation by platform: the plain one multiplies most
            branches = [
                list(_multiply_adds(branch.jaxpr)) for branch in equation.params["branches"]
            ]
            yield from max(branches, key=sum)
        for inner in equation.params.values():
            if hasattr(inner, "jaxpr") and equation.params.get("name") != "_resize":
                yield from _multiply_adds(inner.jaxpr)


def table() -> str:
    """The table in Markdown."""
    lines = [
        "| network | parameters, M | published | with DropClass | multiply-adds, 2^30 | published "
        "| XLA's GFLOP |",
        "|---|---|---|---|---|---|---|",
    ]
    for name, num_classes, auxiliary, published in ROWS:
        ours = size(name, num_classes, auxiliary)
        cells = (
            f"`{name}`" + (" with auxiliary head" if auxiliary else ""),
            f"{ours.parameters / 1e6:.2f}",
            _given(published.parameters),
            f"{ours.with_dropclass / 1e6:.2f}",
            f"{ours.multiply_adds / 2**30:.1f}",
            _given(published.multiply_adds),
            f"{ours.flops / 1e9:.0f}",
        )
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines)


def _given(figure: float | None) -> str:
    return "" if figure is None else f"{figure:.1f}"


if __name__ == "__main__":
    print(table())
