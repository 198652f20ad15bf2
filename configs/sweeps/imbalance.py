"""Which remedy for rare classes helps, alone and together with DropClass?"""


def get_arms(config):
    remedies = {
        "weighted": {"loss.class_weights": "effective_number"},
        "ohem": {"loss.name": "ohem"},
        "adjusted": {"loss.logit_adjustment": 1.0},
        "sampled": {"data.sampling.class_uniform": 0.5},
        "ohem_sampled": {"loss.name": "ohem", "data.sampling.class_uniform": 0.5},
    }
    plain = {"dropclass.enabled": False}
    return {
        "plain": plain,
        "dropclass": {},
        **{name: {**plain, **settings} for name, settings in remedies.items()},
        **{f"{name}_dropclass": settings for name, settings in remedies.items()},
    }
