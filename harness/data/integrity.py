"""Checks that what lies on disk is what the catalogue declares."""

from __future__ import annotations

import hashlib
import json
import os
from dataclasses import dataclass
from pathlib import Path

from harness.data.entries import Entry, File, Part
from harness.data.errors import CorruptData
from harness.data.places import cache, first_use
from harness.files import write_atomically

Signature = list[str | int]


@dataclass(frozen=True)
class Problem:
    """A part of a tree that is missing or differs from what is declared.

    ``expected`` and ``found`` are checksums; ``found`` says what is wrong where there is none.
    """

    file: str
    expected: str
    found: str


def hash_file(path: Path, like: str = "") -> str:
    """The checksum of a file: its sha256, or of the same kind as another checksum."""
    kind = like.rpartition(":")[0]

    def start() -> hashlib._Hash:
        if kind == "git":
            size = path.stat().st_size
            return hashlib.sha1(b"blob %d\0" % size, usedforsecurity=False)
        return hashlib.md5(usedforsecurity=False) if kind == "md5" else hashlib.sha256()

    with path.open("rb") as file:
        found = hashlib.file_digest(file, start).hexdigest()
    return f"{kind}:{found}" if kind else found


def files_below(folder: Path) -> list[tuple[str, os.stat_result]]:
    """Files below a folder: relative path with slashes, and status; sorted by path."""
    found: list[tuple[str, os.stat_result]] = []
    pending = [(str(folder), "")]
    while pending:
        path, prefix = pending.pop()
        with os.scandir(path) as entries:
            for entry in entries:
                if entry.is_dir():
                    pending.append((entry.path, f"{prefix}{entry.name}/"))
                else:
                    found.append((prefix + entry.name, entry.stat()))
    return sorted(found, key=lambda file: file[0])


def hash_folder(folder: Path) -> tuple[str, int, int]:
    """``(sha256 of the listing, bytes, files)`` of a folder of files.

    The listing is what ``sha256sum`` prints for the files sorted by path:
    ``<sha256>  <path below the folder>`` a line.
    """
    listing = hashlib.sha256()
    size = count = 0
    for relative, status in files_below(folder):
        listing.update(f"{hash_file(folder / relative)}  {relative}\n".encode())
        size += status.st_size
        count += 1
    return listing.hexdigest(), size, count


def check_part(root: Path, part: Part) -> Problem | None:
    """Hash one file or folder of a tree and compare it with its declaration."""
    path = root / part.path
    if isinstance(part, File):
        if not path.is_file():
            return Problem(part.path, part.checksum, "no such file")
        if not part.checksum:
            return None
        found = hash_file(path, part.checksum)
    else:
        if not path.is_dir():
            return Problem(part.path, part.checksum, "no such folder")
        found = hash_folder(path)[0]
    return None if found == part.checksum else Problem(part.path, part.checksum, found)


def check_tree(root: Path, wanted: Entry) -> list[Problem]:
    """Hash a whole tree."""
    problems = (check_part(root, part) for part in wanted.parts)
    return [problem for problem in problems if problem is not None]


def signature(root: Path, part: Part) -> Signature:
    """What changes when a part is written to: sizes and modification times, not content."""
    path = root / part.path
    if isinstance(part, File):
        status = path.stat()
        return [status.st_size, status.st_mtime_ns]
    digest = hashlib.blake2b(digest_size=16)
    for relative, status in files_below(path):
        digest.update(f"{relative}\0{status.st_size}\0{status.st_mtime_ns}\n".encode())
    return [digest.hexdigest()]


def check_once(root: Path, wanted: Entry) -> None:
    """Check each part whose path, size or modification time has not been seen before.

    What was found good is remembered in the cache folder, so that later runs only look at
    sizes and times. An unwritable cache means checking at every call.

    Raises:
        CorruptData: for the first part that differs.
    """
    known, seen = _recall(wanted.name), {}
    for part in wanted.parts:
        key = _key(root, part)
        try:
            seen[key] = signature(root, part)
        except OSError as error:
            missing = Problem(part.path, part.checksum, error.strerror or "nothing")
            raise _corrupt(root, wanted, missing) from error
        if known.get(key) != seen[key]:
            problem = check_part(root, part)
            if problem is not None:
                raise _corrupt(root, wanted, problem)
    if any(known.get(key) != value for key, value in seen.items()):
        _remember(wanted.name, {**known, **seen})


def remember_checked(root: Path, wanted: Entry) -> None:
    """Remember a tree whose parts have just been checked, so that they are not hashed again."""
    seen = {_key(root, part): signature(root, part) for part in wanted.parts if part.checksum}
    _remember(wanted.name, {**_recall(wanted.name), **seen})


def _key(root: Path, part: Part) -> str:
    return f"{part.checksum} {(root / part.path).absolute()}"


def _memory(name: str) -> Path:
    return cache() / "verified" / f"{name}.json"


def _corrupt(root: Path, wanted: Entry, problem: Problem) -> CorruptData:
    advice = (
        f"replace the file, or delete it and run `harness data fetch {wanted.name}` "
        f"(home of the data: {wanted.homepage})"
    )
    if wanted.provided:
        advice += f"; if it was replaced on purpose, delete {first_use(wanted.name)}"
    file = str(root / problem.file)
    return CorruptData(wanted.name, file, problem.expected, problem.found, advice)


def _recall(name: str) -> dict[str, Signature]:
    try:
        known = json.loads(_memory(name).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return known if isinstance(known, dict) else {}


def _remember(name: str, seen: dict[str, Signature]) -> None:
    """Two processes may write at once: the later one wins, and each has checked what it wrote."""
    try:
        write_atomically(_memory(name), json.dumps(seen))
    except OSError:
        return
