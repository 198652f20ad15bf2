"""Does the refine block pay, and should it start as the identity?"""


def get_arms(config):
    return {
        "block": {},  # the paper's
        "none": {"dropclass.refine": "none"},  # the averaged features, classified as they are
        "identity": {"dropclass.refine_init": "identity"},  # the drop path starts as the plain one
        "plain": {"dropclass.enabled": False},
    }
