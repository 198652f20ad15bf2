"""The files of a run: every one is written and read here."""
