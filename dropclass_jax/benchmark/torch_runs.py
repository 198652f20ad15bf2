"""The work of a ``Case`` in PyTorch, to be timed beside ours; needs PyTorch.

The same batch of uint8 images, normalised on the device; the same size, classes and precision
(automatic mixed precision for bfloat16, TF32 where XLA takes it); logits upsampled to the labels'
size and their cross-entropy in float32; SGD with momentum and decay.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import jax
import numpy as np
import torch
import torch.nn.functional as F

from dropclass_jax import cores
from dropclass_jax.benchmark import peak_memory, timing, torch_networks
from dropclass_jax.benchmark.case import IMAGE_MEAN, IMAGE_STD, Case, random_batch
from dropclass_jax.benchmark.section import Skipped, Work
from dropclass_jax.benchmark.timing import Run
from dropclass_jax.errors import first_line
from dropclass_jax.ops.labels import IGNORE_LABEL


class Way(NamedTuple):
    """How PyTorch is used.

    Attributes:
      channels_last: memory format of images, maps and kernels.
      compiled: by ``torch.compile``.
    """

    channels_last: bool
    compiled: bool = False

    def __str__(self) -> str:
        layout = "channels last" if self.channels_last else "contiguous"
        return layout + ", compiled" * self.compiled


def prepare(case: Case, kind: str, torch_compile: bool | None = None) -> Callable[[], Work]:
    """Forward passes or training steps, once it is chosen in the way that is the fastest here.

    Args:
      case: what to measure.
      kind: ``forward``, or a variant of a step.
      torch_compile: see ``section.Options``.

    Raises:
      Skipped: PyTorch has no such network, or cannot use the device.
    """
    on = device()

    def make(way: Way) -> Run:
        return predicting(case, way, on) if kind == "forward" else training(case, kind, way, on)

    runs, failed = started(make, ways(on, torch_compile))

    def choose() -> Work:
        best, tried = fastest(runs)
        run = runs[best]
        runs.clear()  # frees the memory of the others
        threads = torch.get_num_threads() if on.type == "cpu" else None
        details = {"threads": threads, "way": best, "tried": tried | failed}
        return Work(run, lambda: peak_bytes(run, on), details)

    return choose


def started(
    make: Callable[[Way], Run], ways: Sequence[Way]
) -> tuple[dict[str, Run], dict[str, str]]:
    """The ways that run, each of them run once, and why the others do not."""
    runs, failed = {}, {}
    for way in ways:
        try:
            run = make(way)
            run(1)
        except Skipped:
            raise
        except Exception as error:  # torch.compile fails in many ways
            if way is ways[0]:
                raise
            failed[str(way)] = first_line(error)
        else:
            runs[str(way)] = run
    return runs, failed


def fastest(runs: Mapping[str, Run]) -> tuple[str, dict[str, float]]:
    """The best of several ways, and the seconds that each of them took."""
    spent = timing.in_turns(runs, 2)
    seconds = {way: timing.summary(turns)["median"] for way, turns in spent.items()}
    return min(seconds, key=seconds.__getitem__), seconds


def device() -> torch.device:
    """PyTorch's name for the device that jax uses; all of its cores where that is the CPU.

    Raises:
      Skipped: PyTorch cannot use that device.
    """
    backend = jax.default_backend()
    if backend == "cpu":
        torch.set_num_threads(len(cores.usable()))
        return torch.device("cpu")
    if backend in ("gpu", "cuda", "rocm") and torch.cuda.is_available():
        torch.backends.cudnn.benchmark = True
        torch.set_float32_matmul_precision("high")  # TF32, as XLA's default
        return torch.device("cuda")
    raise Skipped(f"this PyTorch ({torch.__version__}) has no {backend} to compare on")


def ways(on: torch.device, try_compile: bool | None) -> list[Way]:
    """What to choose PyTorch's best from."""
    gpu = on.type == "cuda"
    plain = [Way(True)] if gpu else [Way(False), Way(True)]
    return plain + [Way(True, True)] * (gpu if try_compile is None else try_compile)


def training(case: Case, variant: str, way: Way, on: torch.device) -> Run:
    """Training steps."""
    network = _network(case, variant, way, on).train()
    optimizer = torch.optim.SGD(
        network.parameters(), lr=0.004, momentum=0.9, weight_decay=5e-4, fused=True
    )
    batch = _batch(case, way, on)
    loss = torch.compile(training_loss) if way.compiled else training_loss

    def step() -> torch.Tensor:
        images = _normalized(batch["image"])
        keep = None
        if variant != "plain":
            dropped = torch.randint(case.classes, (), device=on)
            keep = 1 - F.one_hot(dropped, case.classes).float()
        with _precision(case, on):
            total = loss(network, images, batch["label"].long(), keep)
        optimizer.zero_grad(set_to_none=True)
        total.backward()
        optimizer.step()
        return total

    return _repeated(step, on)


def training_loss(
    network: torch.nn.Module, images: torch.Tensor, labels: torch.Tensor, keep: torch.Tensor | None
) -> torch.Tensor:
    """The loss in the middle of training, where lambda is one half."""
    outputs = network(images, keep)
    total = _cross_entropy(outputs["logits"], labels)
    if keep is None:
        return total
    refined = outputs["logits_drop"].float()
    kept = torch.where(_is_dropped(labels, keep), IGNORE_LABEL, labels)
    seen = (refined.softmax(dim=1) * (1 - keep)[:, None, None]).sum(dim=1).mean()
    return 0.5 * total + 0.5 * _cross_entropy(refined, kept) + 10.0 * seen


def _is_dropped(labels: torch.Tensor, keep: torch.Tensor) -> torch.Tensor:
    dropped = torch.cat([keep == 0, keep.new_zeros(256 - len(keep), dtype=torch.bool)])
    return dropped[labels]


def _cross_entropy(logits: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
    logits = torch_networks.upsample(logits.float(), labels.shape[-2:])
    return F.cross_entropy(logits, labels, ignore_index=IGNORE_LABEL)


def predicting(case: Case, way: Way, on: torch.device) -> Run:
    """Forward passes of the plain network, to a class for every pixel."""
    network = _network(case, "plain", way, on).eval()
    batch = _batch(case, way, on)

    def predict(network: torch.nn.Module, images: torch.Tensor) -> torch.Tensor:
        logits = network(_normalized(images))["logits"].float()
        return torch_networks.upsample(logits, case.size).argmax(dim=1).to(torch.uint8)

    function = torch.compile(predict) if way.compiled else predict

    def step() -> torch.Tensor:
        with torch.inference_mode(), _precision(case, on):
            return function(network, batch["image"])

    return _repeated(step, on)


def peak_bytes(run: Run, on: torch.device) -> int | None:
    """The most memory of one call: of all that PyTorch holds on a GPU, else above what it held."""
    if on.type == "cuda":
        torch.cuda.reset_peak_memory_stats()
        run(1)
        return torch.cuda.max_memory_allocated()
    return peak_memory.peak_increase(lambda: run(1))


def _network(case: Case, variant: str, way: Way, on: torch.device) -> torch.nn.Module:
    network = torch_networks.create(case.model, case.classes, dropclass=variant != "plain")
    memory_format = torch.channels_last if way.channels_last else torch.contiguous_format
    return network.to(on, memory_format=memory_format)


def _batch(case: Case, way: Way, on: torch.device) -> dict[str, torch.Tensor]:
    arrays = random_batch(case)
    images = np.ascontiguousarray(arrays["image"].transpose(0, 3, 1, 2))
    memory_format = torch.channels_last if way.channels_last else torch.contiguous_format
    return {
        "image": torch.from_numpy(images).to(on, memory_format=memory_format),
        "label": torch.from_numpy(arrays["label"]).to(on),
    }


def _normalized(images: torch.Tensor) -> torch.Tensor:
    mean = torch.tensor(IMAGE_MEAN, device=images.device)[:, None, None]
    std = torch.tensor(IMAGE_STD, device=images.device)[:, None, None]
    return (images.float() / 255.0 - mean) / std


def _precision(case: Case, on: torch.device) -> contextlib.AbstractContextManager[Any]:
    if case.dtype == "bfloat16":
        return torch.autocast(on.type, torch.bfloat16)
    return contextlib.nullcontext()


def _repeated(step: Callable[[], torch.Tensor], on: torch.device) -> Run:
    def run(calls: int) -> None:
        for _ in range(calls):
            result = step()
        result.sum().item()  # waits for the device
        if on.type == "cuda":
            torch.cuda.synchronize()

    return run
