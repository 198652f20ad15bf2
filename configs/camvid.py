"""CamVid, 11 classes, from scratch.

    python -m dropclass_jax.train --config=configs/camvid.py:hrnet_w18_small_v1 \\
        --config.data.dir=CAMVID --workdir=RUN

The default is half resolution (180 x 240): about 10 minutes on 2 CPU cores, mIoU on `val` 0.40
with seed 0 (always answering "road" gives 0.03). `:MODEL,full` trains at 360 x 480, for a GPU.
From ImageNet weights: `configs/camvid_imagenet.py`.
"""

from dropclass_jax.errors import UserError
from dropclass_jax.experiment import defaults


def get_config(variant: str = "hrnet_w18_small_v1"):
    model, *options = variant.split(",")
    if unknown := set(options) - {"full"}:
        raise UserError(f"unknown option {min(unknown)!r} of configs/camvid.py; known: full")
    full = "full" in options
    config = defaults.from_scratch()
    config.data.name = "camvid"
    config.data.options.update(resolution=1.0 if full else 0.5, skip_bad=False)
    config.augment.crop = (360, 480) if full else (180, 240)
    config.model.name = model
    config.total_steps = 10_000 if full else 500
    config.eval.every_steps = 1_000 if full else 250
    config.checkpoint.every_steps = 500 if full else 100
    return config
