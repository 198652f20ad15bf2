"""The default config, from which all others start: the reference's recipe, where it has one."""

from __future__ import annotations

from ml_collections import ConfigDict


def get_config() -> ConfigDict:
    """A config that lacks only a data set, a model and a length."""
    return ConfigDict(
        {
            "seed": 0,
            "data": {
                "name": "",  # a data set of dropclass_jax.data
                "dir": "",  # its source folder; a generated set needs none
                "train_split": "train",  # 'train_aug' of voc
                "prepared_dir": "",  # where ArrayRecord files go; '' for the user's cache
                "num_threads": 2,  # that decode and augment
                "cache_gib": 1.0,  # memory for decoded images; changes nothing but the speed
                "sampling": {
                    "class_uniform": 0.0,  # share of examples: draw a class, then an image of it
                    "class_crop": True,  # and crop where the class is
                },
                "options": {},  # of the data set's builder
            },
            "augment": {
                "crop": (512, 1024),  # pixels, (height, width)
                "scale": (0.5, 2.1),  # range of the random scale
                "scale_step": 0.1,
                "flip": True,
                # Usual values: brightness 32, contrast 0.5, saturation 0.5, hue 18; 0 is off.
                "jitter": {"brightness": 0.0, "contrast": 0.0, "saturation": 0.0, "hue": 0},
                "rare_crop": 0.0,  # probability: crop over a class, a rare one more often
                "cat_max_ratio": 1.0,  # crop again while one class fills more than this
            },
            "model": {
                "name": "hrnet_w18_small_v1",  # see dropclass_jax.models
                "output_stride": 0,  # largest stride of ResNet and MobileNetV3; 0 for the usual
                "auxiliary": False,  # a second classifier in the middle, for a loss in training
                "deeplab_v3": {"rates": (12, 24, 36), "dropout": 0.5},  # of that head
                "init": "he",  # 'he', or 'reference': N(0, 0.001), for ImageNet weights on top
                "bn_momentum": 0.99,  # share of the old statistics kept at each step
                "dtype": "float32",  # of the computation: 'float32' or 'bfloat16'
                "remat": "none",  # 'blocks': compute the backbone's again, to save their memory
                "freeze_bn": (),  # norms that keep their statistics, as ('backbone',) or ('*',)
            },
            "init": {
                # Weights to start from: a file, the folder of a run, 'imagenet' (the network's
                # customary ones), 'package:NAME' or 'hf:OWNER/NAME[/FILE]'; see docs/networks.md
                "path": "",
            },
            "dropclass": {
                "enabled": True,  # off is plain training: the baseline
                "alpha": 10.0,  # weight of the suppression
                # A ramp over training: shape 'linear', 'cosine' or 'constant'; 'begin' is the
                # share of training that passes first.
                "lambda_": {"shape": "linear", "start": 1.0, "end": 0.0, "begin": 0.0},
                "p": {"shape": "linear", "start": 0.0, "end": 1.0, "begin": 0.0},
                "per_epoch": False,  # round the coefficients down to epochs, as the reference
                "draw": "uniform",  # 'uniform' or 'inverse_frequency'
                "draw_per": "batch",  # a draw for each 'batch', 'example' or 'tile'
                "tile": 32,  # pixels a side; no finer than the features
                # Classes drawn at once, each dropped with probability p; 0 for a quarter of them.
                "count": 1,
                "draw_present_only": False,  # only classes that the batch (or example) holds
                # The tiles of an image, or the examples of a step, share the classes evenly.
                "stratify": False,
                # 'shared' (1x1 head), 'position' (any head) or 'uniform' (no class has its own)
                "importance": "shared",
                "stop_importance_gradient": False,
                "refine": "block",  # or 'none': classify the averaged features as they are
                # 'default' as model.init says, or 'identity': begin as the plain path
                "refine_init": "default",
            },
            "loss": {
                # 'cross_entropy', 'ohem', 'focal', or 'dice' or 'lovasz' beside the cross-entropy;
                # see docs/rare_classes.md
                "name": "cross_entropy",
                # A pixel is hard whose class has a probability below the threshold, or that is
                # among this share of its image's pixels.
                "ohem": {"threshold": 0.7, "min_kept": 0.2},
                "focal": {"gamma": 2.0},
                "region_weight": 1.0,  # of dice and lovasz
                # Of the logits in training; 0 is off.
                "logit_adjustment": 0.0,  # 1: times the log of the class's share of the pixels
                "logit_variation": 0.0,  # 4: sigma of noise, more for rare classes
                # 'none', 'dataset', 'inverse', 'median_frequency', 'effective_number' or the JSON
                # file that `python -m dropclass_jax.data stats` writes
                "class_weights": "none",
                "auxiliary": 0.5,  # weight of the auxiliary classifier's, where there is one
            },
            "optim": {
                "name": "sgd",  # 'sgd' or 'adamw'
                "lr": 0.004,
                "momentum": 0.9,
                "weight_decay": 5e-4,
                "power": 0.9,  # of the poly decay
                "warmup_steps": 0,
                "lag": 1,  # steps that the decay is late: 1 as the reference
                "freeze": (),  # parameters that stay, as ('backbone/stem*', '*/norm*')
                "ema": 0.0,  # decay of the parameters' moving average, for evaluation; 0 for none
            },
            "batch_size": 48,  # over all devices
            "accumulate_steps": 1,  # parts that a device takes its share of the batch in
            "total_steps": 59_000,
            "eval": {
                "batch_size": 8,  # over all devices
                "every_steps": 2_000,
                "splits": ("val",),
            },
            "checkpoint": {
                "every_steps": 500,
                "keep": 2,
            },
            "on_nonfinite": "stop",  # or 'skip': leave out updates that are not finite
            "log_every": 20,  # steps, of which losses are averaged
            # Log the gradients' norms of cross-entropy and suppression: a second backward pass.
            "log_gradient_norms": False,
        }
    )


def from_scratch() -> ConfigDict:
    """The defaults, but for training in few steps on small crops, from scratch or ImageNet weights.

    AdamW then learns more than the reference's SGD, running statistics that keep 0.99 a step would
    still hold much of where they began, and classes dropped for a whole batch at a time cost more
    than they teach: they are drawn for every tile, a quarter of them at once (RESULTS.md).
    """
    config = get_config()
    config.dropclass.update(draw_per="tile", count=0, alpha=1.0)
    config.model.bn_momentum = 0.9
    config.optim.update(name="adamw", lr=0.003, weight_decay=0.01)
    config.batch_size = 8
    return config
