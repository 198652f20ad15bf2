"""Which loss serves rare classes best, without DropClass?"""


def get_arms(config):
    losses = {
        "plain": {},
        "effective_number": {"loss.class_weights": "effective_number"},
        "median_frequency": {"loss.class_weights": "median_frequency"},
        "ohem": {"loss.name": "ohem"},
        "focal": {"loss.name": "focal"},
        "dice": {"loss.name": "dice"},
        "lovasz": {"loss.name": "lovasz"},
        "logit_adjustment": {"loss.logit_adjustment": 1.0},
        "logit_variation": {"loss.logit_variation": 4.0},
    }
    return {name: {"dropclass.enabled": False, **settings} for name, settings in losses.items()}
