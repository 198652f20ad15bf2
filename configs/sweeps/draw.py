"""Which class should be dropped: any, one that is there, a rare one; by batch or by example?"""


def get_arms(config):
    example, present = {"dropclass.draw_per_example": True}, {"dropclass.draw_present_only": True}
    rare = {"dropclass.draw": "inverse_frequency"}
    return {
        "batch": {},  # the paper's: any class, one for the whole batch
        "example": example,
        "batch_present": present,
        "example_present": {**example, **present},
        "batch_rare": rare,
        "example_present_rare": {**example, **present, **rare},
    }
