"""Read the outputs of a network's layers, and add to them, without changing the network.

Modules are intercepted by flax (``nn.intercept_methods``). A layer is identified by an array that
the network hands on: its layer is the first module that returned this very array. What is added to
a layer's output reaches everything that is computed from it, the rest of the backbone included.
With ``remat`` a network hides the layers inside its blocks.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

import flax.linen as nn
import jax

Arrays = dict[str, jax.Array]


class Layer(NamedTuple):
    """Which output of which module a layer is.

    Attributes:
      module: the path of the module that returns it.
      leaf: which of the arrays that the module returns.
    """

    module: tuple[str, ...]
    leaf: int


def find(model: nn.Module, variables: Any, images: Any) -> dict[str, Layer]:
    """The layers of a ``models.Segmenter``, from fine to deep to the classifier's input.

    Args:
      model: the network.
      variables: the model's, or their shapes.
      images: ``[B, H, W, 3]`` or their shape; nothing is computed.

    Returns:
      ``map 1`` and so on, the maps that the backbone returns; ``features`` and, with DropClass,
      ``features_drop``. A map that is itself the features is listed as ``features`` alone.
    """
    first: dict[int, Layer] = {}  # by the id of an array
    returned: dict[tuple[str, ...], Any] = {}
    layers: dict[str, Layer] = {}

    def note(method: Any, args: Any, kwargs: Any, context: nn.module.InterceptorContext) -> Any:
        result = method(*args, **kwargs)
        if context.method_name == "__call__":
            path = context.module.path
            returned[path] = result  # kept alive, so that no id is given twice
            for leaf, array in enumerate(jax.tree.leaves(result)):
                first.setdefault(id(array), Layer(path, leaf))
        return result

    def trace(variables: Any, images: Any) -> Any:
        with nn.intercept_methods(note):
            outputs = model.apply(variables, images)
        arrays = {f"map {i}": map_ for i, map_ in enumerate(returned[("backbone",)], start=1)}
        arrays |= {name: outputs[name] for name in ("features", "features_drop") if name in outputs}
        layers.update({name: first[id(array)] for name, array in arrays.items()})
        return outputs

    jax.eval_shape(trace, variables, images)
    return {
        name: layer
        for name, layer in layers.items()
        if not name.startswith("map") or layer != layers["features"]
    }


def apply(
    model: nn.Module,
    variables: Any,
    images: jax.Array,
    layers: Mapping[str, Layer],
    added: Mapping[str, jax.Array] | None = None,
) -> tuple[Arrays, Arrays]:
    """Apply a network, with something added to the outputs of some layers.

    Args:
      model: the network.
      variables: the model's.
      images: ``[B, H, W, 3]``, normalised.
      layers: from ``find``.
      added: ``{name: an array of the layer's shape}``, added to the layer's output.

    Returns:
      What the model returns, and ``{name: the layer's output}`` of all ``layers``.
    """
    added = added or {}
    activations: Arrays = {}

    def touch(method: Any, args: Any, kwargs: Any, context: nn.module.InterceptorContext) -> Any:
        result = method(*args, **kwargs)
        own = {name: layer.leaf for name, layer in layers.items()
               if layer.module == context.module.path}  # fmt: skip
        if not own or context.method_name != "__call__":
            return result
        leaves, tree = jax.tree.flatten(result)
        for name, leaf in own.items():
            if name in added:
                leaves[leaf] = leaves[leaf] + added[name]
            activations[name] = leaves[leaf]
        return jax.tree.unflatten(tree, leaves)

    with nn.intercept_methods(touch):
        outputs = model.apply(variables, images)
    return outputs, {name: activations[name] for name in layers}
