"""Where data sets lie on this machine: a mirror folder, then the cache."""

from __future__ import annotations

import os
from pathlib import Path

from harness.data.entries import Entry, Part, entry
from harness.data.errors import BadMirror


def mirror(name: str) -> Path | None:
    """The folder of a data set in the mirror that ``HARNESS_DATA`` names, if there is one.

    Raises:
        BadMirror: the variable is set, but there is no such folder, or nothing in it.
    """
    root = os.environ.get("HARNESS_DATA")
    if not root:
        return None
    folder = Path(root).expanduser()
    try:
        if not any(entry.is_dir() for entry in folder.iterdir()):
            raise BadMirror(f"HARNESS_DATA names {root!r}, which holds no folder of a data set")
    except OSError as error:
        raise BadMirror(f"HARNESS_DATA names {root!r}: {error.strerror}") from error
    return folder / name if (folder / name).is_dir() else None


def cache() -> Path:
    """``HARNESS_CACHE``, else the user's cache folder (XDG)."""
    own = os.environ.get("HARNESS_CACHE")
    if own:
        return Path(own).expanduser()
    base = os.environ.get("XDG_CACHE_HOME") or "~/.cache"
    return Path(base).expanduser() / "paper-harness"


def cached(name: str) -> Path:
    """The folder in the cache where a data set's tree lies once it is complete."""
    return cache() / "data" / name


def first_use(name: str) -> Path:
    """The listing of what a data set without published checksums was at its first use here."""
    return cache() / "first-use" / f"{name}.txt"


def holds(folder: Path, part: Part) -> bool:
    """Whether a file or folder of the tree is there, by existence alone."""
    return (folder / part.path).exists()


def has_tree(folder: Path | None, wanted: Entry) -> bool:
    """Whether a folder holds every declared part, and something of everything users provide."""
    return (
        folder is not None
        and all(holds(folder, part) for part in wanted.parts)
        and all(any(folder.glob(pattern)) for pattern in wanted.provided)
    )


def packed_form(folder: Path, wanted: Entry, part: Part) -> Path | None:
    """The file in a mirror that holds a part in packed form: an archive, or ``<path>.gz``."""
    for packed in wanted.packed:
        archive = folder / packed.archive
        if packed.provides(part.path) and archive.exists():
            return archive
    compressed = folder / f"{part.path}.gz"
    return compressed if part.size is not None and compressed.exists() else None


def has_packed_tree(folder: Path | None, wanted: Entry) -> bool:
    """Whether a mirror holds the tree partly packed, so that it can be unpacked without network."""
    return (
        folder is not None
        and not wanted.provided
        and all(holds(folder, part) or packed_form(folder, wanted, part) for part in wanted.parts)
    )


def tree_root(wanted: Entry) -> Path | None:
    """The folder that holds the whole tree, unpacked: in the mirror, else in the cache."""
    for folder in (mirror(wanted.name), cached(wanted.name)):
        if has_tree(folder, wanted):
            return folder
    return None


def locate(name: str) -> Path | None:
    """The folder with a data set, or ``None`` where this machine does not have it.

    Looks at existence only: no hashing, no network. A mirror may hold the set packed; the folder
    with the tree as loaders read it is what :func:`harness.data.resolve` returns.

    Raises:
        DataUnavailable: for a name that the catalogue does not have.
    """
    wanted = entry(name)
    root = tree_root(wanted)
    if root is None and has_packed_tree(mirror(name), wanted):
        root = mirror(name)
    return root
