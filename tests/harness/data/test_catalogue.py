"""The catalogue itself, and that wrong entries are refused with a reason."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from harness.data import catalogue, entries, fingerprint
from harness.data.entries import Source

NAMES = sorted(catalogue())


def test_the_catalogue_is_sorted_and_complete() -> None:
    assert list(catalogue()) == NAMES
    listings = {path.stem for path in (entries.FOLDER / "checksums").iterdir()}
    assert listings == {name for name, entry in catalogue().items() if entry.parts}
    for name in ("mnist", "planetoid", "msr-action3d", "ucf101-24-tubes", "permlearn-results"):
        assert name in NAMES


@pytest.mark.parametrize("name", NAMES)
def test_addresses_are_pinned_and_well_formed(name: str) -> None:
    entry = catalogue()[name]
    paths = [*(part.path for part in entry.parts), *(entry.provided if entry.sources else ())]
    for path in paths:
        source = next(source for source in entry.sources if source.provides(path))
        address = source.locate(path)
        assert re.fullmatch(r"https?://[^\s{}]+", address)
        assert address.startswith("https") or not entry.provided, "nothing else confirms it"
        if "github" in address:
            assert re.search(r"/[0-9a-f]{40}[/.]", address), "a branch may change"
        if source.unpack == "archive":
            assert source.max_size < 10 * max(entry.size, 10**6)


def test_mnist_declares_the_published_sizes() -> None:
    sizes = {file.path: file.size for file in catalogue()["mnist"].files}
    assert sizes == {
        "train-images-idx3-ubyte": 16 + 60_000 * 784,
        "train-labels-idx1-ubyte": 8 + 60_000,
        "t10k-images-idx3-ubyte": 16 + 10_000 * 784,
        "t10k-labels-idx1-ubyte": 8 + 10_000,
    }


def test_a_fingerprint_depends_on_every_declared_file(declare: Any) -> None:
    declare("toy", {"a": b"1", "b": b"2"})
    before = fingerprint("toy")
    assert re.fullmatch("[0-9a-f]{16}", before)
    declare("toy", {"b": b"2", "a": b"1"})
    assert fingerprint("toy") == before
    for other in ({"a": b"1", "b": b"3"}, {"a": b"1", "c": b"2"}, {"a": b"1"}):
        declare("toy", other)
        assert fingerprint("toy") != before


@pytest.mark.parametrize(
    ("keys", "complaint"),
    [
        ({"licens": "MIT"}, "licens"),
        ({"homepage": "file:///etc"}, "homepage"),
        ({"sources": [{"url": "ftp://h/{path}"}]}, r"http\(s\)"),
        ({"sources": [{"url": "https://h/x", "match": "other"}]}, "no source provides"),
        ({"sources": [{"url": "https://h/x", "match": "("}]}, "match"),
        ({"sources": [{"url": "https://h/x", "unpack": "archive"}]}, "max_size"),
        ({"sources": [{"huggingface": "a/b"}]}, "revision"),
        ({"sources": [{"huggingface": "a/b", "revision": "main"}]}, "revision"),
        ({"sources": [{}]}, "either url or huggingface"),
        ({"manual": ""}, "by hand"),
        ({"provided": ["f"]}, "each path once"),
        ({"provided": ["../f"]}, "relative path"),
        ({"provided": ["g"], "sources": [{"url": "https://h/f", "match": "f"}]}, "no source"),
        ({"provided": ["g*"], "sources": [{"url": "https://h/{path}"}]}, "no source"),
        ({"provided": ["g"], "sources": [{"url": "https://h/{path}"}]}, "max_size"),
        ({"files": []}, "without name, files"),
    ],
)
def test_wrong_entries_are_refused(declare: Any, keys: dict[str, Any], complaint: str) -> None:
    declare("toy", {"f": b"x"}, **keys)
    with pytest.raises(ValueError, match=complaint) as caught:
        catalogue()
    assert "toy" in str(caught.value)


@pytest.mark.parametrize("path", ["/abs", "../up", "a/../b", "a//b", "a\\b"])
def test_paths_that_leave_the_tree_are_refused(declare: Any, path: str) -> None:
    declare("toy", {path: b"x"})
    with pytest.raises(ValueError, match="relative path"):
        catalogue()


@pytest.mark.parametrize("line", ["", "abc 1 f", "0" * 64 + " many f", "0" * 64 + " 1"])
def test_broken_listings_name_the_line(declare: Any, line: str) -> None:
    declare("toy", {"f": b"x"}, (line,))
    with pytest.raises(ValueError, match=r"toy\.txt, line 2"):
        catalogue()


def test_an_entry_without_listing_is_refused(declare: Any) -> None:
    declare("toy", {"f": b"x"})
    (entries.FOLDER / "checksums" / "toy.txt").unlink()
    with pytest.raises(ValueError, match=r"no checksums/toy\.txt"):
        catalogue()


def test_a_hub_source_gives_the_address_of_its_commit(monkeypatch: pytest.MonkeyPatch) -> None:
    from harness.loading.huggingface import address

    commit = "0" * 40
    source = Source(huggingface="some/set", revision=commit, file="data/{path}")
    place = address(source.huggingface, source.revision, source.locate("a b.csv"))
    assert place.endswith(f"/datasets/some/set/resolve/{commit}/data/a%20b.csv")


def test_importing_it_is_light() -> None:
    script = (
        "import sys, harness.data\n"
        "harness.data.catalogue(); harness.data.locate('mnist')\n"
        "heavy = {'torch', 'numpy', 'pandas', 'datasets', 'httpx', 'huggingface_hub', 'filelock'}\n"
        "print(sorted(heavy & set(sys.modules)))"
    )
    root = Path(entries.__file__).parents[2]
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, cwd=root, check=True
    )
    assert done.stdout.strip() == "[]"


def test_what_users_provide_is_there_when_every_pattern_is_met(mirror: Path) -> None:
    from harness import data

    name = "ucf101-two-stream-features"
    folder = mirror / name
    folder.mkdir()
    for split in (1, 2):
        (folder / f"data_feat_train_RGB_centerCrop_25f_sp{split}.h5").touch()
    assert data.locate(name) is None
    with pytest.raises(data.DataUnavailable, match=r"experiments/tslstm/README\.md"):
        data.resolve(name, fetch_missing=True)
    (folder / "data_feat_train_RGB_centerCrop_25f_sp3.h5").touch()
    assert data.resolve(name, fetch_missing=False) == folder
