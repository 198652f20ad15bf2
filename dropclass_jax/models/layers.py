"""Convolutions, norms and dropout shared by all backbones and heads, and their settings."""

from __future__ import annotations

import dataclasses
import math
from contextlib import AbstractContextManager
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
from flax import linen as nn
from jax import lax

from dropclass_jax.models.batch_norm import BatchNorm
from dropclass_jax.ops import axis, convolution, depthwise


def he_normal(key: jax.Array, shape: tuple[int, ...], dtype: Any = jnp.float32) -> jax.Array:
    """He initialisation: normal with variance 2 / fan_in.

    He et al., "Delving Deep into Rectifiers", ICCV 2015, equation 10.

    Args:
      key: a PRNG key.
      shape: of the kernel, ``[kh, kw, in / groups, out]``.
      dtype: of the result.
    """
    return normal(math.sqrt(2 / math.prod(shape[:-1])))(key, shape, dtype)


def normal(stddev: float) -> nn.initializers.Initializer:
    """Initialiser that draws from a normal distribution with mean 0.

    Returns the same numbers as ``flax.linen.initializers.normal``, but draws a vector and reshapes
    it: XLA takes several times as long to compile a draw of four axes, and a network has about a
    hundred of them.
    """

    def init(key: jax.Array, shape: tuple[int, ...], dtype: Any = jnp.float32) -> jax.Array:
        return stddev * jax.random.normal(key, (math.prod(shape),), dtype).reshape(shape)

    return init


def _convolve(
    x: jax.Array,
    kernel: jax.Array,
    strides: Any,
    padding: Any,
    *,
    rhs_dilation: Any,
    precision: Any = None,
    **settings: Any,
) -> jax.Array:
    """``lax.conv_general_dilated`` for square kernels, in the forms of ``ops`` where they apply."""
    size, _, inputs, outputs = kernel.shape
    stride, dilation = strides[0], rhs_dilation[0]
    groups = settings["feature_group_count"]
    around = (dilation * (size // 2),) * 2
    if stride == 1 and padding == "SAME":
        padding = (around, around)
    if all(tuple(side) == around for side in padding):
        if (size, stride, groups) == (1, 1, 1):
            return convolution.pointwise(x, kernel, precision=precision)
        if (size, dilation, groups) == (3, 1, 1) and stride in (1, 2):
            return convolution.conv3x3(x, kernel, stride, precision)
        if inputs == 1 and groups == outputs > 1:
            return depthwise.depthwise(x, kernel, stride, dilation, precision)
    plain = partial(
        lax.conv_general_dilated,
        window_strides=strides,
        padding=padding,
        rhs_dilation=rhs_dilation,
        precision=precision,
        **settings,
    )
    if padding == "SAME" and stride == 2 and inputs == 1 and groups == outputs > 1:
        return lax.platform_dependent(
            x, kernel, cpu=partial(_same_depthwise, dilation=dilation), default=plain
        )
    return plain(x, kernel)


def _same_depthwise(x: jax.Array, kernel: jax.Array, *, dilation: int) -> jax.Array:
    """Depthwise convolution of stride 2 with TensorFlow's padding, as one with symmetric padding.

    On an even size TensorFlow pads one row less in front.
    """
    rows, columns = (1 - size % 2 for size in x.shape[1:3])
    # One more row of zeros in front shifts the windows to where TensorFlow has them. The first
    # output is then a window that TensorFlow does not have.
    x = jnp.pad(x, ((0, 0), (rows, 0), (columns, 0), (0, 0)))
    return depthwise.depthwise(x, kernel, 2, dilation)[:, rows:, columns:]


@dataclasses.dataclass(frozen=True)
class Layers:
    """Creates a network's convolutions and norms, all with the same settings.

    Backbones and heads take it as an attribute and call its methods inside a compact ``__call__``,
    in place of ``nn.Conv`` and ``nn.BatchNorm``. It is a value: equal fields, equal layers.

    Attributes:
      kernel_init: initialiser of convolution kernels ``[kh, kw, in, out]``.
      dtype: compute dtype of convolutions and norms; None follows the input's and the params'.
      padding: ``symmetric``, PyTorch's ``dilation * (kernel_size // 2)`` on every side, or
        ``same``, TensorFlow's: where the two sides cannot share it evenly, as with stride 2 and an
        even input, the far side takes more. With stride 1 they are the same.
      momentum, epsilon, axis_name: see ``BatchNorm``.
      freeze_bn: ``BatchNorm.frozen``.
      remat: whether ``block`` rematerialises blocks in the backward pass.
    """

    kernel_init: nn.initializers.Initializer = he_normal
    dtype: Any = None
    padding: str = "symmetric"
    momentum: float = 0.9
    epsilon: float = 1e-5
    axis_name: str | None = None
    freeze_bn: tuple[str, ...] = ()
    remat: bool = False

    def conv(
        self,
        features: int,
        kernel_size: int = 1,
        stride: int = 1,
        *,
        dilation: int = 1,
        groups: int = 1,
        use_bias: bool = False,
        kernel_init: nn.initializers.Initializer | None = None,
        name: str | None = None,
    ) -> nn.Conv:
        """Creates a convolution with a square kernel of odd size.

        It maps ``[B, H, W, C]`` to ``[B, ceil(H / stride), ceil(W / stride), features]``.

        Args:
          features: output channels.
          kernel_size: height and width of the kernel, odd.
          stride: of rows and columns.
          dilation: of the kernel.
          groups: channel groups; ``C`` of them make a depthwise convolution.
          use_bias: whether to add a bias.
          kernel_init: ``Layers.kernel_init`` by default.
          name: of the submodule.
        """
        padding = (dilation * (kernel_size // 2),) * 2
        return nn.Conv(
            features,
            (kernel_size, kernel_size),
            strides=stride,
            padding="SAME" if self.padding == "same" else (padding, padding),
            kernel_dilation=dilation,
            feature_group_count=groups,
            use_bias=use_bias,
            dtype=self.dtype,
            kernel_init=kernel_init or self.kernel_init,
            conv_general_dilated=_convolve,
            name=name,
        )

    def norm(self, name: str | None = None, start: tuple[float, float] = (1.0, 0.0)) -> BatchNorm:
        """Creates a ``BatchNorm``, which is called with ``(x, train)``.

        Args:
          name: of the submodule.
          start: initial scale and bias.
        """
        return BatchNorm(
            momentum=self.momentum,
            epsilon=self.epsilon,
            axis_name=self.axis_name,
            dtype=self.dtype,
            frozen=self.freeze_bn,
            start=start,
            name=name,
        )

    def block(self, module: type[nn.Module]) -> type[nn.Module]:
        """Returns ``module``, rematerialised in the backward pass if ``remat`` is set.

        A rematerialised block stores nothing but its input and runs forward again in the backward
        pass (Chen et al., "Training Deep Nets with Sublinear Memory Cost", 2016): the same numbers,
        from less memory and more time.

        Args:
          module: a class of modules that are called with ``(x, train)``.
        """
        return nn.remat(module, static_argnums=(2,)) if self.remat else module


class ConvNorm(nn.Module):
    """Convolution followed by batch norm, without an activation.

    The submodules are named ``conv`` and ``norm``. Attributes are those of ``Layers.conv``.
    """

    layers: Layers
    features: int
    kernel_size: int = 1
    stride: int = 1
    dilation: int = 1
    groups: int = 1
    use_bias: bool = False

    @nn.compact
    def __call__(self, x: jax.Array, train: bool) -> jax.Array:
        """Maps ``[B, H, W, C]`` to ``[B, ceil(H / stride), ceil(W / stride), features]``."""
        conv = self.layers.conv(
            self.features,
            self.kernel_size,
            self.stride,
            dilation=self.dilation,
            groups=self.groups,
            use_bias=self.use_bias,
            name="conv",
        )
        return self.layers.norm(name="norm")(conv(x), train)


class Dropout(nn.Module):
    """Dropout whose draw does not depend on how the batch is split over devices.

    In training, sets a share of the values to 0 and divides the rest by the share that is kept
    (Srivastava et al., JMLR 2014). What is dropped is a function of the ``dropout`` key and of the
    example's row in the global batch, so N devices drop what one device would.

    Attributes:
      rate: probability that a value is dropped, 0 to below 1.
      axis_name: mapped axis that the batch is split over, or None.
    """

    rate: float
    axis_name: str | None = None

    @nn.compact
    def __call__(self, x: jax.Array, train: bool, rows: jax.Array | None = None) -> jax.Array:
        """Applies dropout to ``x [B, ...]``; shape and dtype stay.

        Args:
          x: any float array with the batch as its first axis.
          train: if False, ``x`` is returned as it is. If True, a ``dropout`` key is needed.
          rows: ``[B]``, integer, each example's row in the global batch. By default ``x`` is the
            device's whole share of the batch.
        """
        if not train or self.rate == 0 or self.is_initializing():
            return x
        if rows is None:
            rows = axis.example_rows(x.shape[0], self.axis_name)
        keys = jax.vmap(jax.random.fold_in, in_axes=(None, 0))(self.make_rng("dropout"), rows)
        kept = jax.vmap(lambda key: jax.random.bernoulli(key, 1 - self.rate, x.shape[1:]))(keys)
        return jnp.where(kept, x / (1 - self.rate), 0).astype(x.dtype)


def dropout_rows(rows: jax.Array) -> AbstractContextManager[None]:
    """Context manager in which every ``Dropout`` receives ``rows [B]``.

    For gradient accumulation, which applies a network to a few rows of the batch at a time. Passed
    as an argument, the rows would have to go through every head.
    """

    def hand_over(
        method: Any, args: Any, kwargs: Any, context: nn.module.InterceptorContext
    ) -> Any:
        if isinstance(context.module, Dropout) and context.method_name == "__call__":
            kwargs = {"rows": rows, **kwargs}
        return method(*args, **kwargs)

    return nn.intercept_methods(hand_over)


def global_mean(x: jax.Array) -> jax.Array:
    """Global average pooling, ``[B, H, W, C]`` to ``[B, 1, 1, C]`` of the same dtype.

    Accumulates in at least float32: bfloat16 would lose most of a large map's digits.
    """
    wide = jnp.promote_types(x.dtype, jnp.float32)
    return jnp.mean(x, axis=(1, 2), keepdims=True, dtype=wide).astype(x.dtype)
