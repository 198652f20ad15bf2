"""Persistent compilation cache.

jax does the work, and its own environment variables take precedence:

    JAX_COMPILATION_CACHE_DIR=FOLDER      use another folder
    JAX_ENABLE_COMPILATION_CACHE=false    use none

Several processes may share the folder: a program is stored under a hash of everything it depends on
and never changed; of several processes that train together only the first writes; a program that
cannot be read is compiled again. The folder may be deleted at any time.
"""

from __future__ import annotations

import hashlib
import os
import platform
from pathlib import Path

import jax

# Most programs of a start compile in less than a second, below which jax does not keep them.
MIN_SECONDS = 0.1


def keep() -> Path | None:
    """Turn the cache on, in the user's cache folder unless jax is configured to use another.

    That is ``$XDG_CACHE_HOME/dropclass_jax/compiled``; the variable defaults to ``~/.cache``.

    Returns:
      The folder in use; None where it cannot be written, which makes starts slower and does no
      other harm, or where the cache is off.
    """
    if not jax.config.jax_enable_compilation_cache:
        return None
    if jax.config.jax_compilation_cache_dir:
        return Path(jax.config.jax_compilation_cache_dir)
    try:
        caches = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
        folder = caches / "dropclass_jax" / "compiled" / _processor()
        folder.mkdir(parents=True, exist_ok=True)
    except (OSError, RuntimeError):  # a file in the way, no permission; no home at all
        return None
    if not os.access(folder, os.W_OK | os.X_OK):
        return None
    jax.config.update("jax_compilation_cache_dir", str(folder))
    if "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS" not in os.environ:
        jax.config.update("jax_persistent_cache_min_compile_time_secs", MIN_SECONDS)
    return folder


def _processor() -> str:
    """A name for the instruction set of this CPU.

    A program for the CPU uses every instruction of the CPU that compiled it. jax's hash does not
    cover that, and different machines of a cluster may share the folder.
    """
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        lines = []
    kept = [line for line in lines if line.startswith(("model name", "flags", "Features"))]
    description = "\n".join(sorted(set(kept))) or platform.processor()
    return f"{platform.machine()}-{hashlib.sha256(description.encode()).hexdigest()[:8]}"
