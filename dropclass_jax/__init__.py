"""DropClass for imbalanced semantic segmentation, pure functional JAX/Flax.

``dropclass`` and ``objective`` are the method, to use in any training loop; ``models.create``
gives whole networks; ``python -m dropclass_jax.train`` trains them from a config.
"""
