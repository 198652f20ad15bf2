"""Pascal VOC 2012, 21 classes, on the 10,582 images of `train_aug`.

    python -m dropclass_jax.train --config=configs/voc.py:hrnet_w18_small_v1 \\
        --config.data.dir=VOC --workdir=RUN

VOC holds `VOCtrainval_11-May-2012.tar` and SBD's `benchmark.tgz` (or `SegmentationClassAug/`);
without the second, `--config.data.train_split=train` trains on the 1,464 images of VOC alone.
Neither time nor score of this config has been measured yet; it is made for a GPU.

It starts from scratch, where published scores start from ImageNet weights:
`--config.init.path=imagenet` does as well. For the default they are
`hf:timm/hrnet_w18_small.ms_in1k` of the Hugging Face hub (`pip install huggingface_hub`), for
`:deeplab_v3_resnet101` they are `hf:timm/resnet101.tv_in1k`.
"""

from dropclass_jax.experiment import defaults


def get_config(model: str = "hrnet_w18_small_v1"):
    config = defaults.get_config()
    config.data.name = "voc"
    config.data.train_split = "train_aug"
    config.data.options.skip_bad = False
    config.augment.crop = (512, 512)
    config.model.name = model
    config.batch_size = 16
    config.total_steps = 40_000  # 60 epochs
    return config
