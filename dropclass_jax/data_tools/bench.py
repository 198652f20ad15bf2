"""Speed of the training pipeline, compared with a plain loop over the same work.

    python -m dropclass_jax.data bench [--size camvid] [--size cityscapes] [--threads 2] [--json]

The plain loop is what one writes first: in one thread, decode an image and its label, resize both,
crop, flip, and stack a batch. It reads the same records, draws from the same scales and makes
batches of the same shape. All variants take turns within one run, several times, so that whatever
else the machine does meets them all; ratios are of the same turn.

Images of CamVid's and Cityscapes' sizes are drawn on the spot and kept encoded in memory, as JPEG
and PNG files like theirs; ``--size set`` takes the data set that ``--name`` and ``--dir`` give.
"""

from __future__ import annotations

import dataclasses
import json
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import cv2
import numpy as np

from dropclass_jax import cores, data
from dropclass_jax.data import augment, codec, pipeline, scenes, transforms
from dropclass_jax.data.augment import Augmentation
from dropclass_jax.data.cache import CachedSource, Source
from dropclass_jax.data.source import PreparedSource
from dropclass_jax.data.transforms import View
from dropclass_jax.data_tools import arguments
from dropclass_jax.errors import UserError
from dropclass_jax.ops.labels import IGNORE_LABEL
from dropclass_jax.reporting.text_table import aligned

MOST_IMAGES = 256  # of a data set; more would only take longer to get into the cache
RECIPE = transforms.scales((0.5, 2.1), 0.1)


class Case(NamedTuple):
    """What is read, and the size of the crops.

    Attributes:
      name: for people.
      source: where the images are.
      indices: a few of them, which stand for all: a cache of them is soon full.
      length: images of a whole split. (An epoch costs the shuffling 15 ms, however short it is.)
      crop: height and width.
    """

    name: str
    source: PreparedSource
    indices: tuple[int, ...]
    length: int
    crop: tuple[int, int]


@dataclasses.dataclass(frozen=True)
class Repeated:
    """Some images of a source, again and again, as if they were ``length`` images."""

    source: Source
    indices: tuple[int, ...]
    length: int

    def __len__(self) -> int:
        return self.length

    def __getitem__(self, index: int) -> Mapping[str, Any]:
        return self.source[self.indices[index % len(self.indices)]]


class Size(NamedTuple):
    """Drawn images like those of a data set: their size, file format, number and usual crop."""

    shape: tuple[int, int]
    suffix: str
    options: tuple[int, ...]
    crop: tuple[int, int]
    images: int
    length: int


# CamVid's JPEG files have 0.4 bytes a pixel. Cityscapes' are PNGs, which the option storage=exact
# decodes once and for all.
SIZES = {
    "camvid": Size((360, 480), ".jpg", (cv2.IMWRITE_JPEG_QUALITY, 93), (360, 480), 32, 367),
    "cityscapes": Size((1024, 2048), ".png", (), (512, 1024), 8, 2975),
    "cityscapes-exact": Size((1024, 2048), ".bmp", (), (512, 1024), 8, 2975),
}


def drawn_source(size: Size, seed: int = 0) -> PreparedSource:
    """Street scenes with the grain of a camera, encoded as a prepared set's records."""
    records = []
    for i in range(size.images):
        rng = np.random.default_rng([seed, i])
        image, label = scenes.draw_scene(
            rng, in_context=0.95, height=size.shape[0], width=size.shape[1]
        )
        image = np.rint(image + rng.normal(0, 1, image.shape)).clip(0, 255).astype(np.uint8)
        encoded = cv2.imencode(size.suffix, image[..., ::-1], size.options)[1].tobytes()
        records.append(
            {"image": encoded, "label": codec.encode_label(label), "id": str(i).encode()}
        )
    shapes = np.tile(np.int64(size.shape), (size.images, 1))
    return PreparedSource(records, shapes, np.zeros((size.images, 0), np.int32))


def plain_example(element: Mapping[str, Any], view: View) -> dict[str, np.ndarray]:
    """A view of an example the plain way: resize the whole of it, then crop, pad and flip."""
    image, label, factor = element["image"], element["label"], float(view.scale)
    image = cv2.resize(image, None, fx=factor, fy=factor, interpolation=cv2.INTER_LINEAR)
    label = cv2.resize(label, None, fx=factor, fy=factor, interpolation=cv2.INTER_NEAREST)
    window = np.s_[view.top : view.top + view.height, view.left : view.left + view.width]
    image, label = image[window], label[window]
    down, right = view.height - label.shape[0], view.width - label.shape[1]
    if down or right:
        image = np.pad(image, ((0, down), (0, right), (0, 0)))
        label = np.pad(label, ((0, down), (0, right)), constant_values=IGNORE_LABEL)
    if view.flip:
        image, label = image[:, ::-1], label[:, ::-1]
    return {"image": image, "label": label}


def plain_batches(
    source: Source, augmentation: Augmentation, batch_size: int, seed: int = 0
) -> Iterator[dict[str, np.ndarray]]:
    """Batches without end by the plain loop, in one thread."""
    rng = np.random.default_rng(seed)
    examples: list[dict[str, np.ndarray]] = []
    while True:
        for index in rng.permutation(len(source)):
            element = source[int(index)]
            view = transforms.draw_view(
                rng,
                element["label"].shape,
                crop=augmentation.crop,
                scales=augmentation.scales,
                flip=augmentation.flip,
            )
            examples.append(plain_example(element, view))
            if len(examples) == batch_size:
                yield pipeline.stack(examples)
                examples = []


def variants(
    case: Case, batch_size: int, threads: int
) -> dict[str, Callable[[], Iterator[dict[str, np.ndarray]]]]:
    """Functions that start a stream of batches: the plain loop, then the pipeline's variants."""
    augmentation = Augmentation(case.crop, RECIPE)
    read = Repeated(case.source, case.indices, case.length)
    keep = Repeated(CachedSource(case.source, decoded_bytes(case)), case.indices, case.length)

    def begin(source: Source, num_threads: int) -> Iterator[dict[str, np.ndarray]]:
        return pipeline.train_iterator(
            source,
            seed=0,
            batch_size=batch_size,
            augmentation=augmentation,
            num_threads=num_threads,
        )

    counts = sorted({1, threads})
    return {
        "plain loop, 1 thread": lambda: plain_batches(read, augmentation, batch_size),
        **{f"pipeline, {_threads(n)}": lambda n=n: begin(read, n) for n in counts},
        f"pipeline, {_threads(threads)}, cached": lambda: begin(keep, threads),
    }


def decoded_bytes(case: Case) -> int:
    """Bytes of all decoded images and labels of a case."""
    return pipeline.decoded_bytes(case.source.shapes[list(case.indices)])


def memory_bytes(case: Case, batch_size: int, threads: int, cache_bytes: int = 0) -> int:
    """Upper bound of the pipeline's memory: batches, one image a thread, and the cache."""
    batches = pipeline.batches_in_memory(threads)
    largest = pipeline.decoded_bytes(np.max(case.source.shapes, axis=0))
    in_hand = max(threads, 1) * largest
    return pipeline.batch_bytes(batch_size, case.crop, batches) + in_hand + cache_bytes


def images_per_second(
    batches: Iterator[Mapping[str, np.ndarray]], batch_size: int, seconds: float, skip: int
) -> float:
    """Throughput of a stream, without the first ``skip`` batches, which were made ahead."""
    for _ in range(skip):
        next(batches)
    count, start = 0, time.perf_counter()
    while (elapsed := time.perf_counter() - start) < seconds or not count:
        next(batches)
        count += batch_size
    return count / elapsed


def measure(case: Case, batch_size: int, threads: int, repeats: int, seconds: float) -> list[dict]:
    """Images per second of each variant: one dict a variant, the plain loop first."""
    streams = {name: begin() for name, begin in variants(case, batch_size, threads).items()}
    # Long enough to have seen nearly all of the images, in whatever order they come.
    warm = 4 * -(-len(case.indices) // batch_size)
    rates: dict[str, list[float]] = {name: [] for name in streams}
    for turn in range(repeats):
        for name, stream in streams.items():
            # The first turn fills the cache; all of them empty the buffer.
            skip = threads + 3 + (warm if turn == 0 and name.endswith("cached") else 0)
            rates[name].append(images_per_second(stream, batch_size, seconds, skip))
    plain = next(iter(rates.values()))
    return [
        {
            "variant": name,
            "images_per_second": summary(values),
            "times_the_plain_loop": summary(np.divide(values, plain)),
        }
        for name, values in rates.items()
    ]


def stages(case: Case, examples: int = 64) -> dict[str, float]:
    """Median milliseconds an image spends in each stage, in one thread."""
    augmentation = Augmentation(case.crop, RECIPE)
    rng = np.random.default_rng(0)
    spent: dict[str, list[float]] = {}

    def clock(name: str, work: Callable[[], Any]) -> Any:
        start = time.perf_counter()
        result = work()
        spent.setdefault(name, []).append(1e3 * (time.perf_counter() - start))
        return result

    for i in range(examples):
        index = case.indices[i % len(case.indices)]
        record = clock("read", lambda k=index: case.source.records[k])
        image = clock("decode image", lambda r=record: codec.decode_image(r["image"]))
        label = clock("decode label", lambda r=record: codec.decode_label(r["label"]))
        element = {"image": image, "label": label}
        clock("augment", lambda e=element: augment.augment(e, rng, augmentation))
    return {name: float(np.median(values)) for name, values in spent.items()}


def summary(values: Sequence[float]) -> dict[str, Any]:
    """Median, lowest, highest and all of some values."""
    values = [float(value) for value in values]
    return {
        "median": float(np.median(values)),
        "lowest": min(values),
        "highest": max(values),
        "all": values,
    }


def report(case: Case, results: Sequence[Mapping[str, Any]], times: Mapping[str, float]) -> str:
    """The results of one case as a text table."""
    height, width = (int(n) for n in np.max(case.source.shapes, axis=0))
    rows = []
    for row in results:
        rate, ratio = row["images_per_second"], row["times_the_plain_loop"]
        spread = f"{rate['lowest']:.0f}..{rate['highest']:.0f}"
        rows.append([row["variant"], f"{rate['median']:.0f}", spread, f"{ratio['median']:.2f}"])
    lines = aligned(["", "images/s", "lowest..highest", "x plain"], rows)
    parts = ", ".join(f"{name} {ms:.2f}" for name, ms in times.items())
    return "\n".join(
        [
            f"{case.name}: {height}x{width} to {case.crop[0]}x{case.crop[1]}",
            *(f"  {line}" for line in lines),
            f"  ms an image in one thread: {parts}",
        ]
    )


def main(dataset_loader: Callable[[], data.Dataset], argv: list[str]) -> int:
    """The command; see the module's docstring.

    Args:
      dataset_loader: loads the set that ``--size set`` measures.
      argv: what ``bench`` itself has to parse.

    Raises:
      UserError: a number out of its range, or anything wrong with the set.
    """
    available = len(cores.usable())
    parser = arguments.subparser("bench", __doc__)
    add = parser.add_argument
    add("--size", action="append", choices=[*SIZES, "set"], help="default: all but set")
    add("--crop", type=int, nargs=2, metavar=("H", "W"), help="default: usual for the size")
    add("--threads", type=int, default=available, help="default: one a core")
    add("--batch-size", type=int, default=8, help="default: 8")
    add("--repeats", type=int, default=5, help="turns of each variant; default: 5")
    add("--seconds", type=float, default=1.0, help="of each turn; default: 1")
    add("--json", action="store_true", help="print one JSON object instead of tables")
    args = parser.parse_args(argv)
    for name in ("threads", "batch_size", "repeats"):
        if getattr(args, name) < 1:
            raise UserError(f"--{name.replace('_', '-')} {getattr(args, name)}: want 1 or more")
    content: dict[str, Any] = {
        "cpu_cores": available,
        "threads": args.threads,
        "batch_size": args.batch_size,
        "cases": [],
    }
    if not args.json:
        print(f"{available} CPU cores, batches of {args.batch_size}, {args.repeats} turns each")
    for name in args.size or SIZES:
        case = _case(name, dataset_loader)
        if args.crop:
            case = case._replace(crop=tuple(args.crop))
        results = measure(case, args.batch_size, args.threads, args.repeats, args.seconds)
        times = stages(case)
        cached = decoded_bytes(case)
        most = [memory_bytes(case, args.batch_size, args.threads, c) for c in (0, cached)]
        content["cases"].append(
            {
                "size": case.name,
                "shape": np.max(case.source.shapes, axis=0).tolist(),
                "crop": list(case.crop),
                "results": results,
                "milliseconds": times,
                "most_bytes": {"pipeline": most[0], "cached": most[1]},
            }
        )
        if not args.json:
            print(report(case, results, times))
            bounds = (f"{size / 2**20:.0f} MiB" for size in most)
            print("  holds at most {}, cached {}".format(*bounds), flush=True)
    if args.json:
        print(json.dumps(content, indent=2))
    return 0


def _case(name: str, dataset_loader: Callable[[], data.Dataset]) -> Case:
    if name == "set":
        dataset = dataset_loader()
        source = dataset.splits["train"]
        some = np.linspace(0, len(source) - 1, min(len(source), MOST_IMAGES)).astype(int)
        indices = tuple(some.tolist())
        return Case(dataset.info.name, source, indices, len(source), pipeline.largest_shape(source))
    size = SIZES[name]
    return Case(name, drawn_source(size), tuple(range(size.images)), size.length, size.crop)


def _threads(count: int) -> str:
    return f"{count} thread" + "s" * (count > 1)
