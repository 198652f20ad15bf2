"""What was compiled once is kept on the disk, so that the next start of a command need not.

jax does the work, and its own environment variables decide:

    JAX_COMPILATION_CACHE_DIR=FOLDER      keep it elsewhere
    JAX_ENABLE_COMPILATION_CACHE=false    do not keep it

Several processes may use one folder: a program is stored under a hash of all that it depends on
and never changed, only the first of several that train together writes, and one that cannot be
read is compiled again. The folder may be deleted at any time.
"""

from __future__ import annotations

import hashlib
import os
import platform
from pathlib import Path

import jax

# Most of what a start compiles takes less than jax's own threshold of a second.
MIN_SECONDS = 0.1


def keep() -> Path | None:
    """Keep compiled programs in the user's cache folder, unless jax was told of another.

    ``$XDG_CACHE_HOME/dropclass_jax/compiled``, where ``~/.cache`` stands in for the variable.

    Returns:
      The folder that is used from now on; None where nothing can be written, which costs a start
      its time and nothing else, or where the cache is off.
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
    """A name for what this CPU can execute.

    Programs for the CPU use all that the CPU they were compiled on has; jax's hash does not cover
    that, and the machines of a cluster may share the folder and differ.
    """
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        lines = []
    kept = [line for line in lines if line.startswith(("model name", "flags", "Features"))]
    about = "\n".join(sorted(set(kept))) or platform.processor()
    return f"{platform.machine()}-{hashlib.sha256(about.encode()).hexdigest()[:8]}"
