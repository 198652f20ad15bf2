"""Convert weights to a file that can be read without PyTorch.

    python -m dropclass_jax.convert IN OUT --model=hrnet_w48

IN is a checkpoint of torchvision, timm, HRNet's or DropClass's authors, the folder of a run,
``package:NAME`` (the file of weights in an installed Python package), ``hf:OWNER/NAME[/FILE]`` (of
the Hugging Face hub) or ``imagenet`` (the model's customary ImageNet weights). OUT ends in
.safetensors or .npz, holds what the model has use for, and goes into ``--config.init.path=OUT``.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
from absl import flags
from flax import traverse_util

from dropclass_jax import models
from dropclass_jax.cli import app
from dropclass_jax.errors import UserError
from dropclass_jax.models import pretrained, weight_files, weight_sources
from dropclass_jax.models.variables import init_shapes
from dropclass_jax.runs import initial


def convert(source: str | Path, target: Path, model: str) -> pretrained.LoadReport:
    """Write the weights that ``model`` can use to ``target``, by our own names.

    Classifiers are kept whatever their number of classes.

    Args:
      source: see ``weight_sources.find``.
      target: ``.npz`` or ``.safetensors``.
      model: a name of ``dropclass_jax.models``.

    Returns:
      What became of every tensor.

    Raises:
      UserError: anything that does not fit; nothing is written then.
    """
    weight_files.check_writable(target)
    weights = initial.fetch(str(source), model)
    # Where the file has no classifier any number of classes will do: it is not written.
    network = models.create(model, pretrained.num_classes(weights.arrays) or 2, auxiliary=True)
    variables, report = initial.load(init_shapes(network), weights, model)
    leaves = traverse_util.flatten_dict(variables, sep="/")
    fresh = set(report.missing)
    used = {k: np.asarray(v) for k, v in leaves.items() if k not in fresh}
    weight_files.write(target, used, weights.classes)
    return report


def main(argv: list[str]) -> None:
    """The command."""
    if len(argv) != 3:
        raise UserError("give two files: python -m dropclass_jax.convert IN OUT --model=NAME")
    source, target = argv[1], Path(argv[2])
    report = convert(source, target, flags.FLAGS.model)
    count = len(report.matched)
    description = weight_sources.find(source, flags.FLAGS.model).description  # with a checksum
    print(f"{description} -> {target}: {count} tensors from {report.naming} names{report.leftover}")


if __name__ == "__main__":
    flags.DEFINE_string("model", None, "The network; see dropclass_jax.models.", required=True)
    app.run(main, positional=True)
