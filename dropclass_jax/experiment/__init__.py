"""From a config to plain values; no lower layer reads a config."""
