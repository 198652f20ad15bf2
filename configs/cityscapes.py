"""Cityscapes, 19 classes, with the reference's recipe: 512 x 1024 crops, batch 48, 59,000 steps.

    python -m dropclass_jax.train --config=configs/cityscapes.py:hrnet_w18_small_v1 \\
        --config.data.dir=CITYSCAPES --workdir=RUN

CITYSCAPES holds `leftImg8bit_trainvaltest.zip` and `gtFine_trainvaltest.zip`, or what they unpack
to. Neither time nor score of this config has been measured yet; it is made for several GPUs or a
TPU.

It starts from scratch, where the reference starts from ImageNet weights:
`--config.init.path=imagenet` does as well. For the default they are
`hf:timm/hrnet_w18_small.ms_in1k` of the Hugging Face hub (`pip install huggingface_hub`), which
are HRNet's authors'.
"""

from dropclass_jax.experiment import defaults


def get_config(model: str = "hrnet_w18_small_v1"):
    config = defaults.get_config()
    config.data.name = "cityscapes"
    config.data.options.update(
        train_extra=False,  # add that split, with its coarse labels
        storage="original",  # or 'exact', 'jpeg': larger or lossy, and faster to read
        skip_bad=False,
    )
    config.model.name = model
    config.loss.class_weights = "dataset"
    return config
