"""How should the importance of the features be taken, and should it be learned through?"""


def get_arms(config):
    return {
        "shared": {},  # from the kernel of a 1x1 classifier
        "position": {"dropclass.importance": "position"},  # by autodiff: the same numbers, slower
        "stopped": {"dropclass.stop_importance_gradient": True},
        "uniform": {"dropclass.importance": "uniform"},  # none: no class has features of its own
    }
