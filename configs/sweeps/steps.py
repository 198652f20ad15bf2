"""Does DropClass pay with more steps, each budget compared with plain training of as many?"""


def get_arms(config):
    arms = {}
    for factor in (0.5, 1.0, 2.0, 4.0):
        steps = round(factor * config.total_steps)
        length = {"total_steps": steps, "eval.every_steps": steps}
        arms[f"plain_{factor:g}x"] = {**length, "dropclass.enabled": False}
        arms[f"dropclass_{factor:g}x"] = length
    return arms
