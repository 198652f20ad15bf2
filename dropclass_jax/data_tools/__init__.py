"""The commands ``python -m dropclass_jax.data check|stats|show|bench``."""
