"""Building a data set's tree in the cache.

A tree is put together in a folder of its own, beside its final place, and renamed when every
part has its declared checksum, so that nobody sees half a data set; what an interrupted download
left there is used by the next one. One process at a time builds a data set, others wait for it.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from harness.data import archives, places
from harness.data.entries import Entry, Packed, Part, Source
from harness.data.errors import CorruptData, DataUnavailable
from harness.data.integrity import check_part, remember_checked

ARCHIVES = ".archives"
_UNPACKED_PER_PACKED = 20


@contextmanager
def building(wanted: Entry) -> Iterator[Path]:
    """The folder in which to build a tree, for one process at a time.

    The lock is freed by the system when its holder dies.

    Raises:
        DataUnavailable: when the cache folder cannot be written.
    """
    from filelock import FileLock

    lock = places.cache() / "locks" / f"{wanted.name}.lock"
    stage = places.cached(wanted.name).with_name(f".{wanted.name}.partial")
    try:
        lock.parent.mkdir(parents=True, exist_ok=True)
        stage.parent.mkdir(parents=True, exist_ok=True)
        with FileLock(lock):
            yield stage
    except OSError as error:
        reason = f"the cache folder {places.cache()} cannot be written ({error}); set HARNESS_CACHE"
        raise DataUnavailable(wanted.name, reason) from error


def publish(wanted: Entry, stage: Path) -> Path:
    """Put a complete tree, all of it checked, in its final place instead of what was there."""
    final = places.cached(wanted.name)
    shutil.rmtree(stage / ARCHIVES, ignore_errors=True)
    if final.exists():
        old = final.with_name(f".{wanted.name}.old")
        shutil.rmtree(old, ignore_errors=True)
        final.rename(old)
        stage.rename(final)
        shutil.rmtree(old, ignore_errors=True)
    else:
        stage.rename(final)
    remember_checked(final, wanted)
    return final


def unpack(wanted: Entry, archive: Path, how: Packed | Source, stage: Path) -> None:
    """Unpack those members of an archive that belong to the tree.

    Raises:
        UnsafeArchive: when the archive is damaged or suspicious.
    """
    files = {file.path for file in wanted.files if how.provides(file.path)}
    folders = tuple(f"{f.path}/" for f in wanted.folders if how.provides(f.path))

    def place(member: str) -> str | None:
        if not member.startswith(how.strip):
            return None
        path = how.into + member[len(how.strip) :]
        return path if path in files or path.startswith(folders) else None

    packed = how.max_size if isinstance(how, Source) else wanted.size
    limits = archives.Limits(size=packed * _UNPACKED_PER_PACKED)
    unpacked = stage / ARCHIVES / f"{archive.name}.unpacked"
    shutil.rmtree(unpacked, ignore_errors=True)
    archives.extract(archive, unpacked, limits, place)
    _merge(unpacked, stage)
    shutil.rmtree(unpacked, ignore_errors=True)


def _merge(source: Path, target: Path) -> None:
    """Move everything below ``source`` to the same place below ``target``, folders as a whole."""
    for path in list(source.iterdir()):
        place = target / path.name
        if path.is_dir() and place.is_dir():
            _merge(path, place)
        else:
            path.replace(place)


def build_from_mirror(wanted: Entry) -> Path:
    """Build the tree from a mirror that holds it (partly) packed; the mirror is only read.

    Raises:
        CorruptData: when an archive or file of the mirror is not what the catalogue declares.
        DataUnavailable: when the cache folder cannot be written.
    """
    folder = places.mirror(wanted.name)
    with building(wanted) as stage:
        final = places.cached(wanted.name)
        if places.has_tree(final, wanted):  # another process was first
            return final
        if folder is None:
            raise DataUnavailable(wanted.name, f"its mirror vanished; {wanted.how_to_get}")
        shutil.rmtree(stage, ignore_errors=True)
        stage.mkdir()
        for part in wanted.parts:
            if not places.holds(stage, part):
                _take(wanted, part, folder, stage)
            problem = check_part(stage, part)
            if problem is not None:
                origin = places.packed_form(folder, wanted, part) or folder / part.path
                file = f"{part.path} in {origin}"
                raise CorruptData(wanted.name, file, part.checksum, problem.found, _advice(wanted))
        return publish(wanted, stage)


def _advice(wanted: Entry) -> str:
    return f"replace it, or delete it and run `harness data fetch {wanted.name}`"


def _take(wanted: Entry, part: Part, folder: Path, stage: Path) -> None:
    """Bring one part (with its siblings, if it is in an archive) from the mirror."""
    plain, target = folder / part.path, stage / part.path
    target.parent.mkdir(parents=True, exist_ok=True)
    if plain.is_dir():
        shutil.copytree(plain, target)
        return
    if plain.exists():
        shutil.copyfile(plain, target)
        return
    source = places.packed_form(folder, wanted, part)
    if source is None:
        raise DataUnavailable(wanted.name, f"{part.path} vanished; {wanted.how_to_get}")
    packed = next((p for p in wanted.packed if folder / p.archive == source), None)
    try:
        if packed is not None:
            unpack(wanted, source, packed, stage)
        else:
            assert part.size is not None  # else it counts as no packed form
            archives.gunzip(source, target, part.size)
    except archives.UnsafeArchive as error:
        found = f"an unusable archive ({error})"
        file, advice = str(source), _advice(wanted)
        raise CorruptData(wanted.name, file, part.checksum, found, advice) from error
