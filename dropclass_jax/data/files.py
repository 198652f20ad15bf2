"""Source files wherever they lie: in a folder, a zip or a tar, read by the standard library.

Nothing is extracted. A zip and an uncompressed tar have an index, so that any of their files can
be read at once and from several threads; a ``.tgz`` has none and is read from front to back.
"""

from __future__ import annotations

import dataclasses
import os
import tarfile
import unicodedata
import zipfile
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path, PurePosixPath

from dropclass_jax.errors import UserError

MAX_BYTES = 2**31  # of one file; what OpenCV takes


@dataclasses.dataclass(frozen=True)
class File:
    """One file of a source.

    Attributes:
      where: its path, after that of its archive if it is in one; for messages.
      size: in bytes.
      read: gives its bytes, or raises a ``UserError`` that names it.
      crc: its CRC-32, where that is known without reading it.
      changed: when it or its archive was last changed, in nanoseconds; None if that is unknown.
    """

    where: str
    size: int
    read: Callable[[], bytes] = dataclasses.field(repr=False)
    crc: int | None = None
    changed: int | None = None

    def checksum(self) -> int:
        """The CRC-32 of its bytes; a ``UserError`` if it cannot be read."""
        return zlib.crc32(self.read()) if self.crc is None else self.crc


def shown(name: str) -> str:
    r"""A name that can be printed and stored: bytes that are not UTF-8 become escapes, as \xe9."""
    return os.fsencode(name).decode("utf-8", "backslashreplace")


def key(name: str) -> str:
    """A name to compare by: as ``shown``, in NFC (macOS stores accents as separate characters)."""
    return unicodedata.normalize("NFC", shown(name))


def check_size(where: str, size: int) -> None:
    """Refuse a file that is not to be read into memory."""
    if size > MAX_BYTES:
        raise UserError(
            f"{where} has {size / 2**30:.1f} GiB: an image or mask may have {MAX_BYTES >> 30} GiB; "
            "cut it into tiles"
        )


def missing(complaint: str) -> File:
    """Stands where a file should be: reading it is a ``UserError`` with this complaint."""

    def read() -> bytes:
        raise UserError(complaint)

    return File(complaint, 0, read)


def on_disk(path: Path) -> File:
    """A file of the file system."""

    stat, where = path.stat(), shown(str(path))

    def read() -> bytes:
        check_size(where, stat.st_size)
        try:
            return path.read_bytes()
        except OSError as error:
            raise UserError(f"{where} cannot be read: {error.strerror}") from error

    return File(where, stat.st_size, read, changed=stat.st_ctime_ns)


def folder(root: Path, inside: str = "") -> dict[str, File]:
    """The files below a folder by their paths relative to it, in the order of their names.

    Args:
      root: the folder.
      inside: look only below this folder of it.

    Names that begin with a dot are hidden: they and what is below them are left out. A link to
    nothing is a file that cannot be read.

    Raises:
      UserError: a folder cannot be read.
    """
    members = {}
    for where, names, files in os.walk(root / inside, followlinks=True, onerror=_unreadable):
        names[:] = sorted(name for name in names if not name.startswith("."))
        for name in sorted(files):
            path = Path(where, name)
            if name.startswith("."):
                continue
            if path.is_file():
                members[path.relative_to(root).as_posix()] = on_disk(path)
            elif path.is_symlink():
                complaint = f"{shown(str(path))} is a link to a file that is not there"
                members[path.relative_to(root).as_posix()] = missing(f"{complaint}: fetch it")
    return members


def _unreadable(error: OSError) -> None:
    """What ``os.walk`` would leave out."""
    if not isinstance(error, FileNotFoundError):
        where = shown(str(error.filename))
        raise UserError(f"{where} cannot be read: {error.strerror}") from error


def zip_archive(path: Path) -> dict[str, File]:
    """The files of a zip by their names in it.

    Raises:
      UserError: it is not a whole zip archive.
    """
    try:
        archive = zipfile.ZipFile(path)
    except (OSError, zipfile.BadZipFile) as error:
        raise UserError(f"{path} is not a whole zip archive: download it again") from error

    def entry(info: zipfile.ZipInfo) -> File:
        where = f"{path}/{info.filename}"

        def read() -> bytes:
            check_size(where, info.file_size)
            try:
                return archive.read(info)
            except (RuntimeError, NotImplementedError) as error:
                raise UserError(
                    f"{where} is encrypted, or compressed in an unknown way: unpack the archive"
                ) from error
            except (OSError, zipfile.BadZipFile, zlib.error, EOFError) as error:
                raise UserError(f"{where} is damaged: download the archive again") from error

        return File(where, info.file_size, read, info.CRC)

    return {
        info.filename: entry(info)
        for info in archive.infolist()
        if not info.is_dir() and _is_visible(info.filename)
    }


def tar_archive(path: Path) -> dict[str, File]:
    """The files of an uncompressed tar by their names in it.

    Raises:
      UserError: it is compressed, cut short, or no tar at all.
    """
    try:
        with tarfile.open(path, "r:") as archive:
            members = [member for member in archive if member.isfile()]
    except (OSError, tarfile.TarError) as error:
        raise UserError(
            f"{path} is not a whole, uncompressed tar archive: download it again, or unpack it"
        ) from error
    descriptor = os.open(path, os.O_RDONLY)
    changed = os.fstat(descriptor).st_ctime_ns

    def entry(member: tarfile.TarInfo) -> File:
        where = shown(f"{path}/{member.name}")

        def read() -> bytes:
            check_size(where, member.size)
            # Unlike a seek and a read, this is safe from several threads.
            content = os.pread(descriptor, member.size, member.offset_data)
            if len(content) < member.size:
                raise UserError(f"{where} is cut short: download the archive again")
            return content

        return File(where, member.size, read, changed=changed)

    return {member.name: entry(member) for member in members if _is_visible(member.name)}


def tar_stream(path: Path) -> Iterator[tuple[str, bytes]]:
    """The names and contents of the files of a compressed tar, one after the other.

    Raises:
      UserError: at the end, or wherever it is damaged.
    """
    try:
        with tarfile.open(path, "r|*") as archive:
            for member in archive:
                if member.isfile() and _is_visible(member.name):
                    check_size(f"{path}/{member.name}", member.size)
                    yield member.name, archive.extractfile(member).read()
    except (OSError, EOFError, tarfile.TarError, zlib.error) as error:
        raise UserError(f"{path} is not a whole tar archive: download it again") from error


def gzip_checksum(path: Path) -> list[int]:
    """The size of a gzip file, and the checksum of its content that its last 8 bytes hold.

    Raises:
      UserError: it cannot be read.
    """
    try:
        with open(path, "rb") as file:
            size = file.seek(0, os.SEEK_END)
            file.seek(-min(8, size), os.SEEK_END)
            return [size, *file.read()]
    except OSError as error:
        raise UserError(f"{path} cannot be read: {error.strerror}") from error


def _is_visible(name: str) -> bool:
    parts = PurePosixPath(name).parts
    return not any(part.startswith(".") or part == "__MACOSX" for part in parts)
