"""A network's layers from outside: read them and push on them, whatever the network.

A layer is found by what the network hands on: an array that the backbone returns is the output of
the first module that returned this very array. Adding to that output is then felt by all that comes
after it, the rest of the backbone included. Networks need not know; those whose blocks are computed
again in the backward pass (``remat``) hide what is inside of their blocks.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

import flax.linen as nn
import jax

Arrays = dict[str, jax.Array]


class Place(NamedTuple):
    """Where a layer comes out.

    Attributes:
      module: the path of the module that returns it.
      leaf: which of the arrays that the module returns.
    """

    module: tuple[str, ...]
    leaf: int


def find(model: nn.Module, variables: Any, images: Any) -> dict[str, Place]:
    """The layers of a ``models.Segmenter``, from fine to deep to the classifier's input.

    Args:
      model: the network.
      variables: the model's, or their shapes.
      images: ``[B, H, W, 3]`` or their shape; nothing is computed.

    Returns:
      ``map 1`` and so on, the maps that the backbone returns; ``features`` and, with DropClass,
      ``features_drop``. A map that is itself the features stands there alone.
    """
    first: dict[int, Place] = {}
    returned: dict[tuple[str, ...], Any] = {}

    def note(method: Any, args: Any, kwargs: Any, context: nn.module.InterceptorContext) -> Any:
        result = method(*args, **kwargs)
        if context.method_name == "__call__":
            path = context.module.path
            returned[path] = result  # kept, so that no id is given twice
            for leaf, array in enumerate(jax.tree.leaves(result)):
                first.setdefault(id(array), Place(path, leaf))
        return result

    def trace(variables: Any, images: Any) -> Any:
        with nn.intercept_methods(note):
            outputs = model.apply(variables, images)
        layers = {f"map {i}": map_ for i, map_ in enumerate(returned[("backbone",)], start=1)}
        layers |= {name: outputs[name] for name in ("features", "features_drop") if name in outputs}
        found.update({name: first[id(array)] for name, array in layers.items()})
        return outputs

    found: dict[str, Place] = {}
    jax.eval_shape(trace, variables, images)
    return {
        name: place
        for name, place in found.items()
        if not name.startswith("map") or place != found["features"]
    }


def apply(
    model: nn.Module,
    variables: Any,
    images: jax.Array,
    places: Mapping[str, Place],
    push: Mapping[str, jax.Array] | None = None,
) -> tuple[Arrays, Arrays]:
    """Apply a network, with something added to some of its layers.

    Args:
      model: the network.
      variables: the model's.
      images: ``[B, H, W, 3]``, normalised.
      places: from ``find``.
      push: ``{layer: an array of the layer's shape}``, added to what the layer gives.

    Returns:
      What the model returns, and ``{layer: what it gave}`` for all of ``places``.
    """
    push = push or {}
    given: Arrays = {}

    def touch(method: Any, args: Any, kwargs: Any, context: nn.module.InterceptorContext) -> Any:
        result = method(*args, **kwargs)
        here = {name: place.leaf for name, place in places.items()
                if place.module == context.module.path}  # fmt: skip
        if not here or context.method_name != "__call__":
            return result
        leaves, tree = jax.tree.flatten(result)
        for name, leaf in here.items():
            if name in push:
                leaves[leaf] = leaves[leaf] + push[name]
            given[name] = leaves[leaf]
        return jax.tree.unflatten(tree, leaves)

    with nn.intercept_methods(touch):
        outputs = model.apply(variables, images)
    return outputs, {name: given[name] for name in places}
