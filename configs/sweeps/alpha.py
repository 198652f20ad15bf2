"""How strongly should the dropped class be suppressed?"""


def get_arms(config):
    alphas = (10.0, 0.0, 1.0, 3.0, 30.0)  # the paper's first
    return {f"alpha_{alpha:g}": {"dropclass.alpha": alpha} for alpha in alphas}
