"""The base class of all data set builders: prepared sets as ArrayRecord files, through TFDS.

A set is prepared once per *fingerprint*, a hash of its source files and options, in a directory
named after it. TFDS writes into ``incomplete.*`` beside the final directory and renames it at the
end, so that the final directory is always complete (what a killed process leaves is removed by the
next one that prepares a set; see ``leftovers``). Several processes may prepare the same set at
once: each writes its own temporary directory, the first to finish renames it, and the others drop
theirs and read that one. This works wherever a rename is atomic, including a shared NFS folder.

A split is one file, to which examples are appended one by one, so that neither memory nor disk
holds more than that. (TFDS's own writer is designed to shuffle: it keeps up to 1 GB of a split in
memory, and sorts larger ones through files that it cannot open without TensorFlow.)
"""

from __future__ import annotations

import abc
import contextlib
import dataclasses
import hashlib
import io
import json
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import tensorflow_datasets as tfds
from array_record.python.array_record_module import ArrayRecordWriter

from dropclass_jax.data import codec, files, leftovers, windows
from dropclass_jax.data.info import DatasetInfo
from dropclass_jax.data.source import PreparedSource
from dropclass_jax.data.windows import Values
from dropclass_jax.errors import UserError


class Example(NamedTuple):
    """One example to be written to a prepared set.

    Attributes:
      id: unique within the split.
      image: the bytes of a PNG or JPEG file.
      label: uint8 [H, W], 0..K-1 or the ignore label.
      is_turned: whether the image file has an EXIF orientation, which is not applied.
    """

    id: str
    image: bytes
    label: np.ndarray
    is_turned: bool = False


class SegmentationBuilder(tfds.core.GeneratorBasedBuilder, skip_registration=True):
    """A TFDS builder of images with a label map, written as ArrayRecord without TensorFlow.

    A subclass sets ``name`` and implements ``examples``, which yields the examples of a split in
    the order in which they are to be read.

    Attributes:
      facts: the set's ``DatasetInfo`` (TFDS's own is ``info``).
      split_names: the splits, in the order in which they are written.
      fingerprint: a hash of the recipe.
      notes: lines to show to the user once, when the set is prepared or checked.
      window: as in ``DatasetInfo``; read after all examples of a split have been.
      values: the values of 16-bit training images by class, or None; read likewise.
    """

    VERSION = tfds.core.Version("1.1.0")
    window: str | tuple[int, int] | None = None
    values: Values | None = None

    def __init__(
        self,
        facts: DatasetInfo,
        prepared_dir: Path,
        split_names: tuple[str, ...],
        recipe: Mapping[str, Any],
        notes: Sequence[str] = (),
    ) -> None:
        """Compute the fingerprint of ``recipe``, which determines the directory of the set.

        Args:
          facts: names, colours and the ignore label.
          prepared_dir: the folder of all prepared sets.
          split_names: the splits, in the order in which they are written.
          recipe: everything that determines the result, as JSON; any change makes a new set.
          notes: lines to show to the user once.
        """
        self.facts = facts
        self._prepared_dir = Path(prepared_dir)
        self.split_names = split_names
        self.notes = list(notes)
        everything = {"set": self.name, "version": str(self.VERSION), **recipe}
        text = json.dumps(everything, sort_keys=True)
        self.fingerprint = hashlib.sha256(text.encode()).hexdigest()[:16]
        super().__init__(data_dir=prepared_dir / f"{self.name}-{self.fingerprint}")

    @abc.abstractmethod
    def examples(self, split: str) -> Iterator[Example]:
        """The examples of one split, in order; raises ``UserError`` for a bad source file."""

    def _info(self) -> tfds.core.DatasetInfo:
        features = {
            "image": tfds.features.Image(shape=(None, None, 3)),
            "label": tfds.features.Image(shape=(None, None, 1)),
            "id": tfds.features.Text(),
        }
        return tfds.core.DatasetInfo(
            builder=self,
            features=tfds.features.FeaturesDict(features),
            metadata=tfds.core.MetadataDict(),
            disable_shuffling=True,  # written in the order of the source's own lists
        )

    def _split_generators(self, dl_manager: Any) -> dict[str, Iterator[tuple[int, dict]]]:
        return {split: self._generate_examples(split) for split in self.split_names}

    def _download_and_prepare(self, dl_manager: Any, download_config: Any) -> None:
        splits = [self._write(split) for split in self.split_names]
        self.info.set_splits(tfds.core.SplitDict(splits))

    def _write(self, split: str) -> tfds.core.SplitInfo:
        serializer = tfds.core.ExampleSerializer(self.info.features.get_serialized_info())
        template = self._get_filename_template(split)
        path = template.sharded_filepath(shard_index=0, num_shards=1)
        number, size = 0, 0
        with _record_file(Path(path)) as append:
            for _, example in self._generate_examples(split):
                encoded = serializer.serialize_example(self.info.features.encode_example(example))
                append(encoded)
                number, size = number + 1, size + len(encoded)
        return tfds.core.SplitInfo(split, [number], size, template)

    def _generate_examples(self, split: str) -> Iterator[tuple[int, dict]]:
        num_classes = self.facts.num_classes
        class_pixels = np.zeros(num_classes, np.int64)
        shapes, image_pixels = [], []
        for index, example in enumerate(self.examples(split)):
            # TFDS checks neither dtype nor values: a wrong one would be trained on unnoticed.
            assert example.label.dtype == np.uint8, example.label.dtype
            values = np.bincount(example.label.ravel(), minlength=256)
            pixels, rest = values[:num_classes], values[num_classes : self.facts.ignore_label]
            assert not rest.any(), np.flatnonzero(rest) + num_classes
            class_pixels += pixels
            shapes.append(example.label.shape)
            image_pixels.append(pixels.astype(np.int32))
            encoded = codec.encode_label(example.label)
            yield index, {"image": example.image, "label": encoded, "id": files.shown(example.id)}
        self.info.metadata[split] = {
            "class_pixels": class_pixels.tolist(),
            "shapes": shapes,
            "window": self.window,
            "values": self.values._asdict() if split == "train" and self.values else None,
            "image_class_pixels": codec.encode_counts(np.reshape(image_pixels, (-1, num_classes))),
        }

    def is_prepared(self) -> bool:
        """Whether the prepared set exists: TFDS's own check, without its warning."""
        return (Path(self.data_dir) / "dataset_info.json").is_file()

    def prepare(self) -> None:
        """Write the set, unless another process finishes it first.

        Raises:
          UserError: the source is faulty, or the folder cannot be written.
        """
        quiet = contextlib.redirect_stdout(io.StringIO())
        tfds.disable_progress_bar()
        try:
            with (
                leftovers.preparing(self._prepared_dir),
                tempfile.TemporaryDirectory() as unused,
                quiet,
            ):
                self.download_and_prepare(file_format="array_record", download_dir=unused)
        except OSError as error:
            if not self.is_prepared():  # else another process finished first: our rename failed
                raise UserError(
                    f"cannot write the prepared set to {self.data_dir}: {error}; "
                    "choose another folder with prepared_dir or $DROPCLASS_DATA"
                ) from error
        if not self.is_prepared():  # TFDS takes any existing folder for a finished one
            raise UserError(f"{self.data_dir} is not a whole prepared set: delete that folder")
        self.info.read_from_directory(self.data_dir)

    def source(self, split: str) -> PreparedSource:
        """Random access to one split of the prepared set."""
        skip = tfds.decode.SkipDecoding()
        records = self.as_data_source(split, decoders={"image": skip, "label": skip})
        metadata = self.info.metadata[split]
        shapes = np.array(metadata["shapes"], np.int64).reshape(-1, 2)
        counts = codec.decode_counts(metadata["image_class_pixels"], self.facts.num_classes)
        return PreparedSource(records, shapes, counts)

    def prepared_facts(self) -> DatasetInfo:
        """``facts`` with the ``window`` that was recorded when the set was prepared."""
        window = self.info.metadata["train"].get("window")  # absent in older sets
        return dataclasses.replace(
            self.facts, window=tuple(window) if isinstance(window, list) else window
        )

    def prepared_values(self) -> Values | None:
        """The ``values`` that were recorded when the set was prepared."""
        return windows.from_json(self.info.metadata["train"].get("values"))

    def class_pixels(self) -> dict[str, np.ndarray]:
        """The labelled pixels of each class in each split, int64 [K]."""
        return {
            split: np.array(self.info.metadata[split]["class_pixels"], np.int64)
            for split in self.split_names
        }


@contextlib.contextmanager
def _record_file(path: Path) -> Iterator[Callable[[bytes], None]]:
    """Create an ArrayRecord file; yields a function that appends a record, or raises ``OSError``.

    Each record is a group of its own, so that a reader fetches only the examples that it asks for.
    Not compressed: most images and all labels already are, and the raw pixels of images stored as
    ``exact`` are to be read fast.
    """
    writer = ArrayRecordWriter(str(path), "group_size:1,uncompressed")

    def append(record: bytes) -> None:
        try:
            writer.write(record)
        except RuntimeError as error:  # raised by the library when the disk is full
            raise OSError(str(error)) from error

    try:
        yield append
    except BaseException:
        with contextlib.suppress(RuntimeError):
            writer.close()
        raise
    try:
        writer.close()
    except RuntimeError as error:
        raise OSError(str(error)) from error
