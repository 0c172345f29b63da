"""Unpacking of archives whose content is not trusted: zip, tar (gz, bz2, xz), gz.

Nothing is written outside the target folder, nothing but regular files is written, and nothing
grows beyond its limits. The target appears whole or not at all.
"""

from __future__ import annotations

import bz2
import errno
import gzip
import lzma
import shutil
import stat
import struct
import tarfile
import tempfile
import zipfile
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any, Protocol

CHUNK = 1 << 20
_ZIP_MAGIC = (b"PK\3\4", b"PK\5\6")
_SMALL = 1 << 20  # below this many bytes no compression ratio is suspicious
_OPENERS: dict[bytes, Any] = {
    b"\x1f\x8b": gzip.open,
    b"BZ": bz2.open,
    b"\xfd7": lzma.open,
    b"]\0": lzma.open,
}
_LONGEST_NAME = 255  # bytes, of a file or folder


class UnsafeArchive(Exception):
    """An archive that is broken, or that holds what no data set needs."""


@dataclass(frozen=True)
class Limits:
    """How large an archive may become.

    Attributes:
        size: most bytes of all members together, skipped ones included.
        entries: most members.
        ratio: most bytes unpacked for each byte of the archive.
    """

    size: int
    entries: int = 200_000
    ratio: float = 200.0


Rename = Callable[[str], str | None]


def keep_names(name: str) -> str | None:
    return name


def extract(archive: Path, target: Path, limits: Limits, rename: Rename = keep_names) -> int:
    """Unpack a zip or tar archive into a new folder; returns the number of files written.

    Args:
        archive: its format is told by its content, not its name.
        target: must not exist; it is renamed into place when everything is unpacked.
        limits: against decompression bombs; checked on declared and on real sizes.
        rename: maps a member's name to its path below the target, or to ``None`` to skip it.

    Raises:
        UnsafeArchive: for absolute paths, ``..``, links, devices, encrypted or sparse members,
            two members of one name, exceeded limits, damaged or unknown formats.
        FileExistsError: when the target exists.
    """
    if target.exists():
        raise FileExistsError(f"{target} exists")
    target.parent.mkdir(parents=True, exist_ok=True)
    temporary = Path(tempfile.mkdtemp(dir=target.parent, prefix=f".{target.name}."))
    try:
        with _damage_is_unsafe(archive):
            written = _Unpacking(archive, temporary, limits, rename).run()
        temporary.chmod(0o755)
        temporary.rename(target)
    except BaseException:
        shutil.rmtree(temporary, ignore_errors=True)
        raise
    return written


def gunzip(compressed: Path, target: Path, size: int) -> None:
    """Unpack one gzip file to exactly ``size`` bytes.

    Raises:
        UnsafeArchive: when it is damaged or holds more or fewer bytes.
    """
    temporary = target.with_name(f".{target.name}.unpacked")
    try:
        with _damage_is_unsafe(compressed), gzip.open(compressed, "rb") as source:
            written = _copy(source, temporary, size)
        if written != size:
            raise UnsafeArchive(f"{compressed.name} holds {written} bytes instead of {size}")
        temporary.replace(target)
    finally:
        temporary.unlink(missing_ok=True)


@contextmanager
def _damage_is_unsafe(archive: Path) -> Iterator[None]:
    try:
        yield
    except (
        tarfile.TarError,
        zipfile.BadZipFile,
        zlib.error,
        lzma.LZMAError,
        EOFError,
        gzip.BadGzipFile,
        NotImplementedError,
        ValueError,  # of offsets, sizes and encodings in damaged headers
        OverflowError,
        struct.error,
    ) as error:
        raise UnsafeArchive(f"{archive.name} is damaged or of an unknown kind: {error}") from error
    except OSError as error:
        if error.errno != errno.EINVAL:  # that is an offset before the file's beginning
            raise
        raise UnsafeArchive(f"{archive.name} is damaged: {error}") from error


class _Sipping:
    """A stream that is read in pieces: tarfile would read headers whole, however long."""

    def __init__(self, stream: Any) -> None:
        self.stream = stream

    def read(self, size: int = -1) -> bytes:
        if not 0 <= size <= 2 * CHUNK:
            raise UnsafeArchive(f"a header of {size} bytes")
        found: bytes = self.stream.read(size)
        return found

    def __getattr__(self, name: str) -> Any:
        return getattr(self.stream, name)


class _Readable(Protocol):
    def read(self, size: int, /) -> bytes: ...


def _copy(source: _Readable, path: Path, most: int) -> int:
    """Write at most ``most`` bytes of a stream to a new file."""
    written = 0
    with path.open("xb") as file:
        while chunk := source.read(CHUNK):
            written += len(chunk)
            if written > most:
                raise UnsafeArchive(f"{path.name} becomes larger than {most} bytes")
            file.write(chunk)
    return written


class _Unpacking:
    """The state of one extraction: what was seen and written so far."""

    def __init__(self, archive: Path, folder: Path, limits: Limits, rename: Rename) -> None:
        self.archive = archive
        self.folder = folder
        self.limits = limits
        self.rename = rename
        packed = archive.stat().st_size
        self.most = min(limits.size, max(_SMALL, int(packed * limits.ratio)))
        self.seen: set[str] = set()
        self.folders: set[Path] = set()
        self.declared = 0
        self.written = 0
        self.files = 0

    def run(self) -> int:
        with self.archive.open("rb") as file:
            magic = file.read(4)
        if magic in _ZIP_MAGIC:
            self._zip()
        else:
            self._tar()
        return self.files

    def _zip(self) -> None:
        with zipfile.ZipFile(self.archive) as source:
            for info in source.infolist():
                kind = stat.S_IFMT(info.external_attr >> 16)
                if info.flag_bits & 0x1:
                    raise UnsafeArchive(f"{info.filename!r} is encrypted")
                if kind not in (0, stat.S_IFREG, stat.S_IFDIR):
                    raise UnsafeArchive(f"{info.filename!r} is neither a file nor a folder")
                is_folder = info.filename.endswith("/")  # its is_dir() fails without a name
                target = self._admit(info.orig_filename, info.file_size, is_folder)
                if target is not None:
                    with source.open(info) as stream:
                        self._write(stream, target, info.file_size)

    def _tar(self) -> None:
        with self.archive.open("rb") as raw:
            opener = _OPENERS.get(raw.read(2))
        plain = opener(self.archive, "rb") if opener else self.archive.open("rb")
        with plain, tarfile.TarFile(fileobj=_Sipping(plain)) as source:
            for info in source:
                if not (info.isreg() or info.isdir()) or info.issparse():
                    raise UnsafeArchive(f"{info.name!r} is neither a file nor a folder")
                target = self._admit(info.name, info.size, info.isdir())
                if target is not None:
                    stream = source.extractfile(info)
                    if stream is None:
                        raise UnsafeArchive(f"{info.name!r} cannot be read")
                    with stream:
                        self._write(stream, target, info.size)

    def _admit(self, name: str, size: int, is_folder: bool) -> Path | None:
        """Check a member by what its header says; the path to write to, ``None`` to skip it."""
        pure = PurePosixPath(name)
        if pure.is_absolute() or ".." in pure.parts or "\\" in name or "\0" in name:
            raise UnsafeArchive(f"{name!r} points outside the archive")
        if pure.parts and ":" in pure.parts[0]:
            raise UnsafeArchive(f"{name!r} names a drive")
        if not pure.parts and not is_folder:
            raise UnsafeArchive("a file without a name")
        if any(len(part.encode(errors="replace")) > _LONGEST_NAME for part in pure.parts):
            raise UnsafeArchive(f"{name[:40]!r}… is longer than names of files may be")
        if str(pure) in self.seen and not is_folder:
            raise UnsafeArchive(f"{name!r} occurs twice")
        self.seen.add(str(pure))
        if len(self.seen) > self.limits.entries:
            raise UnsafeArchive(f"more than {self.limits.entries} members")
        self.declared += size
        if self.declared > self.most:
            raise UnsafeArchive(f"more than {self.most} bytes when unpacked")
        renamed = None if is_folder else self.rename(str(pure))
        return None if renamed is None else self.folder / renamed

    def _write(self, stream: _Readable, path: Path, declared: int) -> None:
        try:
            if path.parent not in self.folders:
                path.parent.mkdir(parents=True, exist_ok=True)
                self.folders.add(path.parent)
            written = _copy(stream, path, min(declared, self.most - self.written))
        except (FileExistsError, NotADirectoryError) as error:
            raise UnsafeArchive(f"two members want to be {path.name!r}") from error
        if written != declared:
            raise UnsafeArchive(f"{path.name!r} has {written} bytes instead of {declared}")
        self.written += written
        self.files += 1
