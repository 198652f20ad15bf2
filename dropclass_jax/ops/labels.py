"""The label value of pixels that do not count."""

IGNORE_LABEL = 255
