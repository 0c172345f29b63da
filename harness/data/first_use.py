"""Files whose checksums nobody has published: they must stay what they were at their first use.

Their sha256 sums are recorded in the cache then, as a listing like those of the catalogue, and
count from now on as if they had been declared.
"""

from __future__ import annotations

import contextlib
from pathlib import Path

from harness.data import places
from harness.data.entries import Entry, File, entry, read_listing
from harness.data.errors import DataUnavailable
from harness.data.integrity import hash_file, remember_checked
from harness.files import write_atomically

UNCONFIRMED = "unconfirmed (first use on this machine)"


def remark(name: str) -> str:
    """What to say of a data set beside its name; empty where all its checksums are published."""
    return UNCONFIRMED if entry(name).provided else ""


def known(wanted: Entry) -> Entry:
    """The entry with all its files: checksums as recorded, none where a file was not used yet."""
    unused = {path: File(path, None, "") for path in wanted.provided}
    return _with(wanted, {**unused, **_recorded(wanted.name)})


def pin(wanted: Entry, root: Path) -> Entry:
    """The entry with a checksum for every file that ``root`` holds of it.

    Files that are used for the first time are recorded as they are. Without a writable cache
    every use is the first.
    """
    if not wanted.provided:
        return wanted
    recorded = _recorded(wanted.name)
    found = {path for pattern in wanted.provided for path in root.glob(pattern) if path.is_file()}
    new = {}
    for file in sorted(found):
        path = file.relative_to(root).as_posix()
        if path not in recorded:
            new[path] = File(path, file.stat().st_size, hash_file(file))
    if new:
        lines = [f"{f.checksum} {f.size} {f.path}\n" for f in {**recorded, **new}.values()]
        with contextlib.suppress(OSError):
            write_atomically(places.first_use(wanted.name), "".join(lines))
        remember_checked(root, wanted.model_copy(update={"files": tuple(new.values())}))
    return _with(wanted, {**recorded, **new})


def contents(name: str) -> str:
    """A fingerprint that tells versions of unconfirmed data apart; empty where it is not needed,
    or where the data were not used on this machine."""
    wanted = entry(name)
    recorded = _recorded(name) if wanted.provided else {}
    return _with(wanted, recorded).fingerprint if recorded else ""


def _with(wanted: Entry, files: dict[str, File]) -> Entry:
    return wanted.model_copy(update={"files": (*wanted.files, *files.values())})


def _recorded(name: str) -> dict[str, File]:
    path = places.first_use(name)
    try:
        return {file.path: file for file in read_listing(path)[0]}
    except OSError:
        return {}
    except ValueError as error:
        raise DataUnavailable(name, f"{error}; {path} is not as it was written") from error
