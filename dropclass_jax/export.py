"""Export a trained network as one file that jax alone can call, without this package or flax.

    python -m dropclass_jax.export --workdir=RUN --out=model.jax [--batch=4] [--size=512,1024]

The file holds everything from pixels to classes: normalisation, the network with its weights,
sliding windows or several scales if asked for, and argmax. Using it takes jax and flatbuffers:

    from jax import export
    model = export.deserialize(open("model.jax", "rb").read())
    classes = model.call(images)  # uint8 [B, H, W, 3], RGB -> uint8 [B, H, W]

It can be called by the version of jax that wrote it and by later ones, for which jax guarantees six
months. A file for any sizes (`any`, the default) is compiled at the first call with each size.
Networks of several resolutions, as HRNet, predict best at multiples of 32.

One file serves all of `--platforms`. `model.jax.json` beside it lists the classes, with colours,
and what was exported. The file is read back and compared with the run's network; the result is
printed, and written there too (`--nocheck` skips this).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.export
import jax.numpy as jnp
import numpy as np
from absl import flags

from dropclass_jax.cli import app, view_flags
from dropclass_jax.errors import UserError
from dropclass_jax.evaluation import inference
from dropclass_jax.evaluation.inference import OUTPUTS, WHOLE, Views
from dropclass_jax.files import atomic, finite, write_json
from dropclass_jax.runs import rundir, trained_network
from dropclass_jax.runs.trained_network import TrainedNetwork

PLATFORMS = ("cpu", "cuda", "rocm", "tpu")
VALUES = ("classes", "logits")


class Sizes(NamedTuple):
    """The sizes of the images that a file takes; None for any."""

    batch: int | None = None
    height: int | None = None
    width: int | None = None

    def shape(self, free: Sequence[int | str]) -> tuple[int | str, ...]:
        """``[B, H, W, 3]`` with the given placeholders for free sizes."""
        return (*(other if n is None else n for n, other in zip(self, free, strict=True)), 3)


def lower(
    network: TrainedNetwork,
    sizes: Sizes,
    *,
    platforms: Sequence[str] = ("cpu", "cuda", "tpu"),
    output: str = "classes",
    head: str | None = None,
    views: Views = WHOLE,
) -> jax.export.Exported:
    """Export a run's network, from pixels to classes, for several platforms at once.

    The weights become constants of the program, so that it is one file with one argument.

    Args:
      network: a run's.
      sizes: of the images.
      platforms: some of ``PLATFORMS``; they need not be at hand.
      output: ``classes``, uint8 [B, H, W], or ``logits``, float32 [B, H, W, K]; see
        ``inference.scores``.
      head: ``drop`` or ``plain``; the network's own by default.
      views: how the network is shown an image.

    Raises:
      UserError: a value that is out of range, or views that need sizes which are free.
    """
    _check(sizes, platforms, output, views)
    run = _function(network, output, head, views)
    spec = ", ".join(map(str, sizes.shape("bhw")))
    images = jax.ShapeDtypeStruct(jax.export.symbolic_shape(spec), jnp.uint8)
    function = jax.jit(lambda images: run(network.variables, images))
    return jax.export.export(function, platforms=tuple(platforms))(images)


def _function(network: TrainedNetwork, output: str, head: str | None, views: Views) -> Any:
    score = trained_network.scorer(network, head, views)

    def run(variables: Any, images: jax.Array) -> jax.Array:
        scores = score(variables, images)
        if output == "classes":
            return jnp.argmax(scores, axis=-1).astype(jnp.uint8)
        return scores.astype(jnp.float32)

    return run


def _check(sizes: Sizes, platforms: Sequence[str], output: str, views: Views) -> None:
    for name, size in sizes._asdict().items():
        if size is not None and size < 1:
            raise UserError(f"a {name} of {size}: give 1 or more, or any")
    for platform in platforms:
        if platform not in PLATFORMS:
            raise UserError(f"--platforms: {platform!r} is none of {', '.join(PLATFORMS)}")
    if not platforms:
        raise UserError(f"--platforms: give some of {', '.join(PLATFORMS)}")
    if output not in VALUES:
        raise UserError(f"--output is one of {', '.join(VALUES)}, not {output!r}")
    is_free = sizes.height is None or sizes.width is None
    if is_free and (views.window is not None or tuple(views.scales) != (1.0,)):
        raise UserError(
            f"{inference.describe(views)} depends on the images' size: give it, as --size=512,1024"
        )


def compare(
    exported: jax.export.Exported,
    network: TrainedNetwork,
    sizes: Sizes,
    *,
    output: str = "classes",
    head: str | None = None,
    views: Views = WHOLE,
) -> dict[str, Any]:
    """Compare an exported network with the run's on noise, where classes are hardest to tell apart.

    Both are compiled for the device that jax runs on. What differs is how XLA fuses operations.

    Args:
      exported: from ``lower``.
      network: the run's.
      sizes: as for ``lower``, and so are the others. Free ones are 2 images of the training crop.
      output: ``classes`` or ``logits``.
      head: ``drop`` or ``plain``.
      views: how the network is shown an image.

    Returns:
      ``device``, ``shape`` of the images and, of classes, ``agreement``: the share of pixels of
      the same class; of logits ``max_abs_difference`` and ``max_abs``, the largest of all logits.
    """
    crop = tuple(network.facts.crop)
    shape = sizes.shape((2, *crop))
    images = np.random.default_rng(0).integers(0, 256, shape, dtype=np.uint8)
    ours = jax.jit(_function(network, output, head, views))(network.variables, images)
    theirs, ours = np.asarray(exported.call(images)), np.asarray(ours)
    setting = {"device": jax.devices()[0].device_kind, "shape": list(shape)}
    if output == "classes":
        return {**setting, "agreement": float((ours == theirs).mean())}
    difference = float(np.abs(ours - theirs).max())
    return {**setting, "max_abs_difference": difference, "max_abs": float(np.abs(ours).max())}


def describe(
    network: TrainedNetwork,
    exported: jax.export.Exported,
    output: str,
    head: str | None,
    views: Views,
) -> dict[str, Any]:
    """A description of the file for its users, as JSON."""
    images, result = exported.in_avals[0], exported.out_avals[0]
    return {
        "input": {"shape": _shape(images), "dtype": str(images.dtype), "channels": "RGB"},
        "output": {"shape": _shape(result), "dtype": str(result.dtype), "is": output},
        "classes": trained_network.values_of_classes(network),
        "window": network.info.window,  # of 16-bit images: what becomes 0 and 255
        "resolution": network.facts.resolution,  # of the images, of the data's source: by area
        "platforms": list(exported.platforms),
        "jax": jax.__version__,
        "model": network.facts.model,
        "data": network.info.name,
        "step": network.step,
        "head": trained_network.own_output(network, head),
        "views": inference.describe(views),
    }


def _shape(value: Any) -> list[int | str]:
    """A shape as JSON, free sizes by their letters."""
    return [size if isinstance(size, int) else str(size) for size in value.shape]


def write(path: Path, exported: jax.export.Exported) -> None:
    """Write the file atomically.

    Raises:
      UserError: it cannot be written.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with atomic(path) as file:
            file.write(exported.serialize())
    except OSError as error:
        raise UserError(
            f"{path} cannot be written: {error.strerror}; choose another --out"
        ) from error


def read(path: Path) -> jax.export.Exported:
    """Read a file, exactly as its users do."""
    return jax.export.deserialize(path.read_bytes())


def export_run(
    workdir: Path,
    path: Path,
    sizes: Sizes,
    *,
    platforms: Sequence[str] = ("cpu", "cuda", "tpu"),
    output: str = "classes",
    head: str | None = None,
    which: str = "last",
    views: Views = WHOLE,
    check: bool = True,
) -> dict[str, Any]:
    """Write a run's network to a file, and its description to the same name with ``.json``.

    Args:
      workdir: the run's folder.
      path: the file to write.
      sizes: of the images.
      platforms: see ``lower``, and so for ``output``, ``head`` and ``views``.
      output: ``classes`` or ``logits``.
      head: ``drop`` or ``plain``; the network's own by default.
      which: the checkpoint: ``last``, ``best`` or a step.
      views: how the network is shown an image.
      check: read the file back and ``compare``, if jax has one of the platforms here.

    Returns:
      The description.

    Raises:
      UserError: a mistake of the user's.
    """
    network = trained_network.load(workdir, which)
    exported = lower(network, sizes, platforms=platforms, output=output, head=head, views=views)
    write(path, exported)
    content = describe(network, exported, output=output, head=head, views=views)
    if check and jax.default_backend() in _backends(exported):
        content["check"] = compare(
            read(path), network, sizes, output=output, head=head, views=views
        )
    content = finite(content)
    write_json(path.with_name(path.name + ".json"), content)
    return content


def main(argv: list[str]) -> None:
    """The command."""
    given = flags.FLAGS
    workdir, path = Path(given.workdir), Path(given.out)
    content = export_run(
        workdir,
        path,
        Sizes(*free_or_whole("batch", given.batch, 1), *free_or_whole("size", given.size, 2)),
        platforms=given.platforms,
        output=given.output,
        head=given.head,
        which=given.checkpoint,
        views=view_flags.read(rundir.read_facts(workdir).crop),
        check=given.check,
    )
    if "check" in content:
        print(f"on noise, on {content['check']['device']}: {_verdict(content['check'])}")
    shown = ", ".join(map(str, content["input"]["shape"]))
    if content["resolution"] != 1:
        print(f"it takes images at {content['resolution']:g} of the data's size, as in training")
    print(f"written: {path}, {path.stat().st_size / 1e6:.1f} MB, for images [{shown}]; {path}.json")


def _verdict(check: Mapping[str, Any]) -> str:
    if "agreement" in check:
        return f"{check['agreement']:.4%} of the pixels are of the same class as the run says"
    return (
        f"logits differ from the run's by {check['max_abs_difference']:.1e} at most, of up to "
        f"{check['max_abs']:.1f}"
    )


def _backends(exported: jax.export.Exported) -> set[str]:
    """The names that ``jax.default_backend`` has for a file's platforms."""
    return {"gpu" if name in ("cuda", "rocm") else name for name in exported.platforms}


def free_or_whole(name: str, text: str, number: int) -> list[int | None]:
    """Parse ``any``, or so many whole numbers with commas."""
    if text == "any":
        return [None] * number
    try:
        values = list(map(int, text.split(",")))
    except ValueError:
        values = []
    if len(values) != number:
        example = ",".join(["4"] if number == 1 else ["512", "1024"])
        raise UserError(f"--{name} is {example} or the like, or any, not {text!r}")
    return values


if __name__ == "__main__":
    flags.DEFINE_string("workdir", None, "The run's folder.", required=True)
    flags.DEFINE_string("out", None, "The file to write.", required=True)
    flags.DEFINE_string("batch", "any", "Images in a batch, or any.")
    flags.DEFINE_string("size", "any", "HEIGHT,WIDTH of the images, or any.")
    flags.DEFINE_list("platforms", "cpu,cuda,tpu", f"Some of {','.join(PLATFORMS)}.")
    flags.DEFINE_enum("output", "classes", list(VALUES), "Classes, or logits as float32.")
    flags.DEFINE_enum("head", None, list(OUTPUTS), "The model's own by default.")
    flags.DEFINE_string("checkpoint", "last", "Which: last, best (by mean IoU) or a step.")
    flags.DEFINE_bool("check", True, "Compare the file with the run's network.")
    view_flags.define()
    flags.adopt_module_key_flags(view_flags)  # so that --help lists them
    app.run(main)
