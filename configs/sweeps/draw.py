"""What should be dropped at once: how many classes, and a draw for each batch, example or tile?

``control`` trains the drop path and never drops a class: what is above it is due to the drops, not
to the refine block, which is one more layer.
"""


def get_arms(config):
    def drops(per, alpha, count):
        names = {"draw_per": per, "alpha": alpha, "count": count}
        return {f"dropclass.{name}": value for name, value in names.items()}

    classes = {"camvid": 11, "streets": 19, "cityscapes": 19, "voc": 21}.get(config.data.name, 12)
    counts = tuple(round(classes / part) for part in (6, 4, 3))
    return {
        "plain": {"dropclass.enabled": False},
        "control": {"dropclass.p.end": 0.0, "dropclass.alpha": 0.0},
        **{
            f"{per}_alpha_{alpha:g}": drops(per, alpha, 1)
            for per in ("batch", "example", "tile")
            for alpha in (1.0, 3.0, 10.0)  # 10 a batch: the paper's
        },
        **{
            f"{per}_{count}_alpha_{alpha:g}": drops(per, alpha, count)
            for per in ("example", "tile")
            for count in counts
            for alpha in (1.0, 3.0)
        },
        f"tile_{counts[1]}_alpha_1_stratified": {
            **drops("tile", 1.0, counts[1]),
            "dropclass.stratify": True,
        },
        "batch_alpha_10_present": {**drops("batch", 10.0, 1), "dropclass.draw_present_only": True},
        "batch_alpha_10_rare": {**drops("batch", 10.0, 1), "dropclass.draw": "inverse_frequency"},
    }
