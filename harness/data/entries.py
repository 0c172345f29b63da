"""The catalogue of public data sets: ``catalog.yaml`` and the checksums beside it.

A data set is a *tree*: relative paths with sizes and checksums, listed in
``checksums/<name>.txt``, one ``<checksum> <bytes> <path>`` a line. A path that ends in ``/`` stands
for a folder of many small files; its line is ``<listing hash> <bytes> <path>/ <files>`` (see
:func:`harness.data.integrity.hash_folder`). Where the tree comes from (``sources``) and in which
other form a mirror may hold it (``packed``) is said in the entry; whatever the route, the tree
is the same, byte for byte. Files without any published checksum are named in the entry itself
(``provided``); see :mod:`harness.data.first_use`.
"""

from __future__ import annotations

import hashlib
import json
import re
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path, PurePosixPath
from typing import Annotated, Any, Literal
from urllib.parse import quote

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError, model_validator

from harness.data.errors import DataUnavailable
from harness.specs import yamlfile

FOLDER = Path(__file__).parent
CHECKSUM = re.compile(r"[0-9a-f]{64}|git:[0-9a-f]{40}|md5:[0-9a-f]{32}")


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


@dataclass(frozen=True)
class File:
    """One file of a tree.

    Attributes:
        path: relative path.
        size: bytes; ``None`` where nobody has published them (``-`` in a listing).
        checksum: the content's sha256 in hexadecimal; or, where its publisher gives no other,
            ``git:`` with the id of a git blob, or ``md5:``. Empty if there is none.
    """

    path: str
    size: int | None
    checksum: str


@dataclass(frozen=True)
class Folder:
    """A folder of many files, declared as a whole.

    Attributes:
        path: relative path, without a slash at the end.
        size: bytes of all files together.
        checksum: hash of the sorted listing ``<sha256>  <path below the folder>``.
        count: number of files.
    """

    path: str
    size: int
    checksum: str
    count: int


Part = File | Folder


def _regular_expression(pattern: str) -> str:
    try:
        re.compile(pattern)
    except re.error as error:
        raise ValueError(f"{pattern!r} is not a regular expression: {error}") from error
    return pattern


Pattern = Annotated[str, AfterValidator(_regular_expression)]


class Source(_Strict):
    """Where files of the tree can be downloaded.

    Attributes:
        url: an address, or a template with ``{path}`` or the named groups of ``match``.
        huggingface: instead of ``url``, a data set repository on the hub.
        file: the template of a path in that repository.
        revision: the repository's commit.
        match: a regular expression that the whole path of a provided file (or folder) matches.
        unpack: ``gz`` for a compressed file, ``archive`` for an archive that holds all files that
            match (the format is told by its content).
        strip: leading folder of the archive's members, removed.
        into: folder of the tree in which the archive's members lie.
        max_size: most bytes of an archive, or of a file whose size is not known.
    """

    url: str = ""
    huggingface: str = ""
    file: str = "{path}"
    revision: Annotated[str, Field(pattern=r"^([0-9a-f]{40})?$")] = ""
    match: Pattern = r"(?P<path>.+)"
    unpack: Literal["", "gz", "archive"] = ""
    strip: str = ""
    into: str = ""
    max_size: int = Field(default=0, ge=0)

    @model_validator(mode="after")
    def _complete(self) -> Source:
        if bool(self.url) == bool(self.huggingface):
            raise ValueError("a source has either url or huggingface")
        if self.url and not re.match(r"https?://", self.url):
            raise ValueError(f"only http(s) addresses may be named, not {self.url!r}")
        if bool(self.huggingface) != bool(self.revision):
            raise ValueError("huggingface and revision go together")
        if self.unpack == "archive" and not self.max_size:
            raise ValueError("unpack: archive needs max_size")
        return self

    def provides(self, path: str) -> bool:
        return re.fullmatch(self.match, path) is not None

    def locate(self, path: str) -> str:
        """The address of one file of the tree (on the hub: its path in the repository)."""
        found = re.fullmatch(self.match, path)
        if found is None:
            raise ValueError(f"{path!r} does not match {self.match!r}")
        parts = {"path": path, **found.groupdict()}
        if self.huggingface:
            return self.file.format(**parts)
        return self.url.format(**{name: quote(part) for name, part in parts.items()})


class Packed(_Strict):
    """An archive in which a mirror may hold a part of the tree instead of its files."""

    archive: str
    match: Pattern
    strip: str = ""
    into: str = ""

    def provides(self, path: str) -> bool:
        return re.fullmatch(self.match, path) is not None


class Entry(_Strict):
    """One public data set.

    Attributes:
        licence: as far as it is stated by the source; else ``not stated``.
        huggingface: id of the same data on the Hugging Face hub (often in another format).
        notes: what whoever reads results on it has to know.
        manual: how to get it by hand.
        provided: files whose checksums nobody has published, often made or converted by users
            themselves (then patterns). They must stay as they were at their first use.
    """

    name: Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9_.-]{0,63}$")]
    title: str = Field(min_length=3)
    homepage: Annotated[str, Field(pattern=r"^https?://")]
    licence: str = Field(min_length=3)
    citation: str = ""
    huggingface: str = ""
    notes: str = ""
    manual: str = ""
    sources: tuple[Source, ...] = ()
    packed: tuple[Packed, ...] = ()
    files: tuple[File, ...] = ()
    folders: tuple[Folder, ...] = ()
    provided: tuple[str, ...] = ()

    @model_validator(mode="after")
    def _consistent(self) -> Entry:
        paths = [*(part.path for part in self.parts), *self.provided]
        if not paths or len(set(paths)) != len(paths):
            raise ValueError("a data set has at least one file, and each path once")
        for path in paths:
            _check_relative(path)
        if not self.sources and not self.manual:
            raise ValueError("without sources, say under manual how to get the data by hand")
        for path in paths if self.sources else ():
            self._check_sources(path)
        return self

    def _check_sources(self, path: str) -> None:
        sources = [source for source in self.sources if source.provides(path)]
        if not sources or set(path) & set("*?["):
            raise ValueError(f"no source provides {path!r}")
        for source in sources if path in self._unsized else ():
            if not source.max_size or source.unpack == "gz":
                raise ValueError(f"{path!r} has no size: its sources need max_size, and no gz")

    @property
    def parts(self) -> tuple[Part, ...]:
        return (*self.files, *self.folders)

    @property
    def _unsized(self) -> list[str]:
        return [*(part.path for part in self.parts if part.size is None), *self.provided]

    @property
    def size(self) -> int:
        """Bytes of the whole tree; of files without a known size, the most that is downloaded."""
        most = {}
        for path in self._unsized:
            for source in [s for s in self.sources if s.provides(path)][:1]:
                most[source.url if source.unpack else path] = source.max_size
        return sum(part.size or 0 for part in self.parts) + sum(most.values())

    @property
    def megabytes(self) -> str:
        """The size in words; empty where nothing is known."""
        if not self.size:
            return ""
        return f"{'at most ' if self._unsized else ''}{self.size / 1e6:,.1f} MB"

    @property
    def how_to_get(self) -> str:
        """What to do where the data set is missing."""
        ways = [f"put it under $HARNESS_DATA/{self.name}"]
        if self.sources:
            ways.append(f"run `harness data fetch {self.name}` ({self.megabytes})")
        by_hand = f"get it from {self.homepage}"
        ways.append(f"{by_hand}: {self.manual.strip()}" if self.manual else by_hand)
        return ", or ".join(ways)

    @property
    def fingerprint(self) -> str:
        """16 hexadecimal digits: a hash of every path and checksum."""
        declared = sorted((part.path, part.checksum) for part in self.parts)
        declared += [(pattern, "provided") for pattern in self.provided]
        return hashlib.sha256(json.dumps(declared).encode()).hexdigest()[:16]


def _check_relative(path: str) -> None:
    pure = PurePosixPath(path)
    if pure.is_absolute() or ".." in pure.parts or str(pure) != path or "\\" in path:
        raise ValueError(f"{path!r} is not a plain relative path")


def catalogue() -> dict[str, Entry]:
    """Every known data set by name.

    Raises:
        ValueError: when ``catalog.yaml`` or a listing is wrong; the message says where.
    """
    return dict(_load(FOLDER))


def entry(name: str) -> Entry:
    """One data set.

    Raises:
        DataUnavailable: for a name that the catalogue does not have.
    """
    known = _load(FOLDER)
    if name not in known:
        import difflib

        close = difflib.get_close_matches(name, known, n=1)
        hint = f"; did you mean {close[0]!r}?" if close else ""
        raise DataUnavailable(name, f"the catalogue has no such data set{hint}")
    return known[name]


def fingerprint(name: str) -> str:
    """Hash of the checksums that the catalogue declares: known without the data."""
    return entry(name).fingerprint


@lru_cache(maxsize=8)
def _load(folder: Path) -> dict[str, Entry]:
    path = folder / "catalog.yaml"
    try:
        raw = yamlfile.load(path).data
    except yamlfile.YamlError as error:
        raise ValueError(f"{path.name}, line {error.line}: {error}") from error
    if not isinstance(raw, dict):
        raise ValueError(f"{path.name}: expected a mapping of names to data sets")
    return {name: _entry_of(folder, name, declared) for name, declared in raw.items()}


def _entry_of(folder: Path, name: str, declared: Any) -> Entry:
    if not isinstance(declared, dict) or declared.keys() & {"name", "files", "folders"}:
        raise ValueError(f"catalog.yaml: {name}: expected a mapping without name, files, folders")
    listing = folder / "checksums" / f"{name}.txt"
    if not listing.exists() and not declared.get("provided"):
        raise ValueError(f"catalog.yaml: {name}: there is no checksums/{name}.txt")
    files, folders = read_listing(listing) if listing.exists() else ((), ())
    try:
        return Entry(name=name, files=files, folders=folders, **declared)
    except (ValidationError, TypeError) as error:
        raise ValueError(f"catalog.yaml: {name}: {error}") from error


def read_listing(path: Path) -> tuple[tuple[File, ...], tuple[Folder, ...]]:
    """The files and folders that a listing declares.

    Raises:
        ValueError: naming the line that is wrong.
    """
    files: list[File] = []
    folders: list[Folder] = []
    for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), start=1):
        checksum, size, name = [*line.split(" ", 2), "", ""][:3]
        folder = re.fullmatch(r"(.+)/ (\d+)", name)
        sized = size.isdigit() or (size == "-" and not folder)
        if not CHECKSUM.fullmatch(checksum) or not sized or not name:
            raise ValueError(f"{path.name}, line {number}: expected '<checksum> <bytes> <path>'")
        if folder:
            folders.append(Folder(folder[1], int(size), checksum, int(folder[2])))
        else:
            files.append(File(name, None if size == "-" else int(size), checksum))
    return tuple(files), tuple(folders)
