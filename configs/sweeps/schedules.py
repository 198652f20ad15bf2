"""How should the drop path and the dropping come in over training?"""


def get_arms(config):
    def both(**ramp):
        """The same change to the ramps of lambda and of p."""
        return {f"dropclass.{name}.{key}": value for name in ("lambda_", "p")
                for key, value in ramp.items()}  # fmt: skip

    return {
        "linear": {},  # the paper's
        "plain": {"dropclass.enabled": False},
        "cosine": both(shape="cosine"),
        "constant": both(shape="constant", end=0.5),  # the mean of the linear ones, throughout
        "per_epoch": {"dropclass.per_epoch": True},  # the authors' code
        "begin_0.25": both(begin=0.25),  # plain training first, for a quarter of the steps
        "begin_0.5": both(begin=0.5),
        "begin_0.75": both(begin=0.75),
        "lambda_to_0.5": {"dropclass.lambda_.end": 0.5},  # the plain path is trained to the end
        "p_to_0.5": {"dropclass.p.end": 0.5},  # every other step drops nothing
    }
