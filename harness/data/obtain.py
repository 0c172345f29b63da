"""From a data set's name to the folder that loaders read: found, unpacked or fetched, checked."""

from __future__ import annotations

from pathlib import Path

from harness.data import first_use, places
from harness.data.entries import Entry, entry
from harness.data.errors import DataUnavailable
from harness.data.fetching import fetch_unless_it_just_failed
from harness.data.integrity import Problem, check_once, check_tree
from harness.data.trees import build_from_mirror

AUTOMATIC_BYTES = 300 * 10**6


def resolve(name: str, fetch_missing: bool) -> Path:
    """The folder with a data set's checked tree, the same whatever route it came by.

    Looks in the mirror, then in the cache; unpacks what the mirror holds packed; with
    ``fetch_missing`` downloads a set of up to 300 MB. A download that failed is not tried again
    for an hour. Checksums are computed once for each file, size and modification time; files
    that have none get one at their first use.

    Raises:
        DataUnavailable: when the set is not here and may not or cannot be downloaded.
        CorruptData: when a file is not the declared one, or not as it was at its first use.
    """
    wanted = entry(name)
    root = _local_root(wanted)
    if root is None and fetch_missing and wanted.size <= AUTOMATIC_BYTES:
        root = fetch_unless_it_just_failed(wanted)
    if root is None:
        raise DataUnavailable(name, f"it is not on this machine; {wanted.how_to_get}")
    check_once(root, first_use.pin(wanted, root))
    return root


def verify(name: str) -> list[Problem]:
    """Hash every file of a data set on this machine; an empty list when all are as declared.

    Raises:
        DataUnavailable: when this machine does not have the set.
        CorruptData: when an archive in the mirror cannot be unpacked to the declared files.
    """
    wanted = entry(name)
    root = _local_root(wanted)
    if root is None:
        raise DataUnavailable(name, f"it is not on this machine; {wanted.how_to_get}")
    return check_tree(root, first_use.pin(wanted, root))


def _local_root(wanted: Entry) -> Path | None:
    root = places.tree_root(wanted)
    if root is None and places.has_packed_tree(places.mirror(wanted.name), wanted):
        root = build_from_mirror(wanted)
    return root
