"""Which remedy for rare classes helps, alone and together with DropClass?"""


def get_arms(config):
    plain = {"dropclass.enabled": False}
    weighted = {"loss.class_weights": "effective_number"}
    return {
        "plain": plain,
        "dropclass": {},
        "weighted": {**plain, **weighted},
        "weighted_dropclass": weighted,
    }
