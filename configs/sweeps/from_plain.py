"""Does DropClass pay from a converged plain network on, at equal steps in all?"""


def get_arms(config):
    once, twice = {"total_steps": config.total_steps}, {"total_steps": 2 * config.total_steps}
    plain = {"dropclass.enabled": False}
    again = {**once, "init.path": "{sweep}/plain_1x/seed{seed}"}
    return {
        "plain_2x": {**twice, **plain},
        "plain_1x": {**once, **plain},  # what the next three start from
        "plain_1x_plain_1x": {**again, **plain},  # a learning rate that starts again, alone
        "plain_1x_dropclass_1x": again,
        "plain_1x_identity_1x": {**again, "dropclass.refine_init": "identity"},
        "dropclass_2x": twice,
    }
