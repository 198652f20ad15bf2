"""The files of a run: each is written and read by one module of this package."""
