"""From a config to plain values; nothing below this room reads a config."""
