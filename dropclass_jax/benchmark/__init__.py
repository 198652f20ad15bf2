"""``python -m dropclass_jax.benchmark``: see ``__main__``."""
