"""The defaults of every experiment; `dropclass_jax/experiment/defaults.py` explains each of them.

A config of your own starts from them, as the others in this folder do.
"""

from dropclass_jax.experiment.defaults import get_config

__all__ = ["get_config"]
