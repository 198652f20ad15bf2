"""XLA flags of the tests' processes, which compile much and run little."""

from importlib.metadata import version

# Most of a test's time is compilation, and most of that is optimisation. Without it, and with the
# emitters that jaxlib had before 0.11, a test of training takes a third of the time.
QUICK = ["--xla_backend_optimization_level=0"]
# Compiler options of one program with the emitters that users have.
USUAL_EMITTERS = {}
if version("jaxlib").startswith("0.10."):
    QUICK.append("--xla_cpu_use_fusion_emitters=false")
    USUAL_EMITTERS["xla_cpu_use_fusion_emitters"] = True


def flags(devices: int) -> str:
    """The value of ``XLA_FLAGS`` for so many CPU devices."""
    return " ".join([f"--xla_force_host_platform_device_count={devices}", *QUICK])
