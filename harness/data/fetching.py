"""Downloading a data set from its sources into the cache."""

from __future__ import annotations

import json
import shutil
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from harness.data import archives, first_use, places, trees
from harness.data.entries import Entry, File, Part, Source, entry
from harness.data.errors import DataUnavailable
from harness.data.integrity import check_part, check_tree
from harness.files import write_atomically

if TYPE_CHECKING:
    import httpx

RETRY_SECONDS = 3600.0
Report = Callable[[str, int, int], None]


def fetch(name: str, report: Report | None = None) -> Path:
    """Download a data set from its source into the cache, whatever its size.

    Args:
        name: the data set.
        report: called with a file's name, its bytes so far and in all (0 where unknown).

    Returns:
        The folder of the tree; a good one that is there already is left alone.

    Raises:
        DataUnavailable: with the reason, and what to do instead.
    """
    wanted = first_use.known(entry(name))
    if not wanted.sources:
        raise DataUnavailable(name, f"it has no direct download; {wanted.how_to_get}")
    with trees.building(wanted) as stage:
        final = places.cached(name)
        if not (places.has_tree(final, wanted) and not check_tree(final, wanted)):
            stage.mkdir(exist_ok=True)
            _bring_all(wanted, stage, report)
            trees.publish(wanted, stage)
            first_use.pin(entry(name), final)
    _failure_note(name).unlink(missing_ok=True)
    return final


def fetch_unless_it_just_failed(wanted: Entry) -> Path:
    """Download, but not where a download failed within the last hour.

    Raises:
        DataUnavailable: from this failure or the earlier one.
    """
    earlier = _recent_failure(wanted.name)
    if earlier is not None:
        raise DataUnavailable(wanted.name, earlier)
    try:
        return fetch(wanted.name)
    except DataUnavailable as error:
        _note_failure(error)
        raise


def _failure_note(name: str) -> Path:
    return places.cache() / "unavailable" / f"{name}.json"


def _recent_failure(name: str) -> str | None:
    try:
        note = json.loads(_failure_note(name).read_text(encoding="utf-8"))
        age, reason = time.time() - float(note["time"]), str(note["reason"])
    except (OSError, ValueError, KeyError, TypeError):
        return None
    if not 0 <= age < RETRY_SECONDS:
        return None
    return f"{reason} (tried {age / 60:.0f} min ago; not tried again by itself within an hour)"


def _note_failure(error: DataUnavailable) -> None:
    note = {"time": time.time(), "reason": error.reason}
    try:
        write_atomically(_failure_note(error.name), json.dumps(note))
    except OSError:
        return  # without a writable cache the next run tries again


def _bring_all(wanted: Entry, stage: Path, report: Report | None) -> None:
    """Bring every part that is not there yet from the first source that serves it."""
    from harness.data.download import client

    with client() as http:
        for part in wanted.parts:
            if places.holds(stage, part) and check_part(stage, part) is None:
                continue
            reasons: list[str] = []
            for source in (s for s in wanted.sources if s.provides(part.path)):
                reason = _Transfer(http, wanted, source, part, stage, report).run()
                if reason is None:
                    break
                reasons.append(reason)
            else:
                raise DataUnavailable(wanted.name, f"{'; '.join(reasons)}; {wanted.how_to_get}")


@dataclass(frozen=True)
class _Transfer:
    """One part from one source."""

    http: httpx.Client
    wanted: Entry
    source: Source
    part: Part
    stage: Path
    report: Report | None

    def run(self) -> str | None:
        """Bring the part, with its siblings if it is in an archive; returns why not, if not."""
        from harness.data.download import DownloadFailed

        address = self._address()
        target = self.stage / self.part.path
        if target.is_dir():
            shutil.rmtree(target)
        target.unlink(missing_ok=True)
        try:
            self._bring(address, target)
        except (DownloadFailed, archives.UnsafeArchive) as error:
            return str(error)
        problem = check_part(self.stage, self.part)
        if problem is None:
            return None
        self._archive.unlink(missing_ok=True)
        return (
            f"{address}: {self.part.path}: expected the checksum {problem.expected}, "
            f"found {problem.found}"
        )

    @property
    def _archive(self) -> Path:
        """Where an archive of this source lies while its members are brought in."""
        number = self.wanted.sources.index(self.source)
        return self.stage / trees.ARCHIVES / f"{number}.archive"

    def _address(self) -> str:
        place = self.source.locate(self.part.path)
        if not self.source.huggingface:
            return place
        from harness.loading.huggingface import address

        return address(self.source.huggingface, self.source.revision, place)

    def _bring(self, address: str, target: Path) -> None:
        from harness.data.download import DownloadFailed, Target, download

        part, source = self.part, self.source
        if source.unpack == "archive":
            archive = self._archive
            if not archive.exists():
                download(self.http, address, Target(archive, source.max_size), self.report)
            try:
                trees.unpack(self.wanted, archive, source, self.stage)
            except archives.UnsafeArchive:
                archive.unlink()
                raise
        elif source.unpack == "gz":
            assert part.size is not None  # as the entry was checked
            compressed = target.with_name(f"{target.name}.gz")
            most = part.size + part.size // 100 + 4096  # what gzip may add to what it cannot shrink
            download(self.http, address, Target(compressed, most), self.report)
            try:
                archives.gunzip(compressed, target, part.size)
            finally:
                compressed.unlink()
        elif isinstance(part, File):
            most = source.max_size if part.size is None else part.size
            exact = Target(target, most, part.size, part.checksum)
            download(self.http, address, exact, self.report)
        else:
            raise DownloadFailed(f"{address} serves no archive that could hold {part.path}/")
