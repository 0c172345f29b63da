"""From a name to a checked folder: mirror, cache, download, and what stands in the way."""

from __future__ import annotations

import gzip
import hashlib
import io
import os
import subprocess
import sys
import tarfile
from pathlib import Path
from typing import Any

import pytest

from harness.data import (
    CorruptData,
    DataUnavailable,
    entries,
    fetch,
    fetching,
    integrity,
    locate,
    resolve,
    verify,
)

FILES = {"a.txt": b"alpha" * 100, "deep/b.bin": bytes(range(256)) * 40}
NAMES = ("x.txt", "y.txt", "sub/z.txt")
FOLDER = {name: name.encode() * 50 for name in NAMES}


def sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def put(folder: Path, files: dict[str, bytes]) -> Path:
    for name, content in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(content)
    return folder


def tarball(files: dict[str, bytes]) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w:gz") as archive:
        for name, content in files.items():
            info = tarfile.TarInfo(name)
            info.size = len(content)
            archive.addfile(info, io.BytesIO(content))
    return buffer.getvalue()


def tree(folder: Path) -> dict[str, bytes]:
    files = (p for p in folder.rglob("*") if p.is_file())
    return {p.relative_to(folder).as_posix(): p.read_bytes() for p in files}


def test_a_plain_mirror_is_used_where_it_lies(mirror: Path, declare: Any) -> None:
    declare("toy", FILES)
    assert locate("toy") is None
    put(mirror / "toy", {**FILES, "README": b"more than declared is fine"})
    assert locate("toy") == resolve("toy", fetch_missing=False) == mirror / "toy"
    assert verify("toy") == []


def test_missing_data_says_what_to_do(cache: Path, declare: Any, server: Any) -> None:
    declare("toy", FILES, sources=[{"url": f"{server.url}/{{path}}"}])
    with pytest.raises(DataUnavailable) as caught:
        resolve("toy", fetch_missing=False)
    for hint in ("HARNESS_DATA", "harness data fetch toy", "http://home.invalid"):
        assert hint in str(caught.value)
    assert caught.value.name == "toy"
    assert server.requests == []
    with pytest.raises(DataUnavailable, match="not on this machine"):
        verify("toy")


def test_by_hand_only(cache: Path, declare: Any) -> None:
    declare("toy", FILES, manual="sign the form")
    for call in (lambda: fetch("toy"), lambda: resolve("toy", fetch_missing=True)):
        with pytest.raises(DataUnavailable, match="sign the form") as caught:
            call()
        assert "harness data fetch" not in str(caught.value)


def test_unknown_names_suggest_known_ones(cache: Path, declare: Any) -> None:
    declare("toyset", FILES)
    for call in (locate, fetch, verify, entries.fingerprint, lambda n: resolve(n, True)):
        with pytest.raises(DataUnavailable, match="did you mean 'toyset'"):
            call("toysets")


def test_a_download_becomes_a_tree_in_the_cache(cache: Path, declare: Any, server: Any) -> None:
    declare("toy", FILES, sources=[{"url": f"{server.url}/v1/{{path}}"}])
    server.routes.update({f"/v1/{name}": content for name, content in FILES.items()})
    root = resolve("toy", fetch_missing=True)
    assert root == locate("toy") == cache / "data" / "toy"
    assert tree(root) == FILES
    count = len(server.requests)
    assert resolve("toy", fetch_missing=True) == fetch("toy") == root
    assert len(server.requests) == count
    assert sorted(p.name for p in (cache / "data").iterdir()) == ["toy"]


def test_sources_are_matched_renamed_and_tried_in_order(
    cache: Path, declare: Any, server: Any
) -> None:
    files = {"k7.csv": b"seven", "one two.txt": b"spaces"}
    sources = [
        {"match": r"k(?P<k>\d+)\.csv", "url": f"{server.url}/gone/{{k}}"},
        {"match": r"k(?P<k>\d+)\.csv", "url": f"{server.url}/runs/{{k}}/result.csv"},
        {"url": f"{server.url}/{{path}}"},
    ]
    declare("toy", files, sources=sources)
    server.routes.update({"/runs/7/result.csv": b"seven", "/one%20two.txt": b"spaces"})
    assert tree(fetch("toy")) == files
    assert server.paths == ["/gone/7", "/runs/7/result.csv", "/one%20two.txt"]


def test_an_interrupted_download_keeps_what_it_has(cache: Path, declare: Any, server: Any) -> None:
    declare("toy", FILES, sources=[{"url": f"{server.url}/{{path}}"}])
    server.routes["/a.txt"] = FILES["a.txt"]
    with pytest.raises(DataUnavailable, match="404"):
        fetch("toy")
    assert locate("toy") is None  # half a data set is none
    server.routes["/deep/b.bin"] = FILES["deep/b.bin"]
    server.requests.clear()
    fetch("toy")
    assert server.paths == ["/deep/b.bin"]


def test_wrong_bytes_make_no_data_set(cache: Path, declare: Any, server: Any) -> None:
    declare("toy", {"f": b"right"}, sources=[{"url": f"{server.url}/{{path}}"}])
    server.routes["/f"] = b"wrong"
    with pytest.raises(DataUnavailable) as caught:
        fetch("toy")
    assert sha256(b"right") in str(caught.value) and sha256(b"wrong") in str(caught.value)
    assert locate("toy") is None


def archived(server: Any, folder_line: Any, declare: Any) -> None:
    """The set ``packed``: a folder and a file that come in one archive."""
    source = {"url": f"{server.url}/a", "unpack": "archive", "strip": "r-1/", "max_size": 10**6}
    packed = [{"archive": "many.tar.gz", "match": "many", "into": "many/"}]
    lines = (folder_line("many", FOLDER),)
    declare("packed", {"notes": b"n"}, lines, sources=[source], packed=packed)
    members = {f"r-1/many/{name}": content for name, content in FOLDER.items()}
    server.routes["/a"] = tarball({**members, "r-1/notes": b"n", "r-1/code.py": b"unwanted"})


PACKED_TREE = {"notes": b"n", **{f"many/{name}": content for name, content in FOLDER.items()}}


def test_every_route_gives_the_same_tree(
    mirror: Path, declare: Any, server: Any, folder_line: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    archived(server, folder_line, declare)
    assert tree(fetch("packed")) == PACKED_TREE
    assert server.paths == ["/a"]  # once, for the file and the folder
    monkeypatch.setenv("HARNESS_CACHE", str(mirror.parent / "another"))
    put(mirror / "packed", {"notes.gz": gzip.compress(b"n"), "many.tar.gz": tarball(FOLDER)})
    before = tree(mirror)
    assert locate("packed") == mirror / "packed"
    root = resolve("packed", fetch_missing=False)
    assert root == mirror.parent / "another" / "data" / "packed"
    assert tree(root) == PACKED_TREE
    assert tree(mirror) == before
    assert len(server.requests) == 1


def test_a_partial_mirror_is_no_mirror(mirror: Path, declare: Any) -> None:
    declare("toy", FILES)
    put(mirror / "toy", {"a.txt": FILES["a.txt"]})
    assert locate("toy") is None
    with pytest.raises(DataUnavailable):
        resolve("toy", fetch_missing=False)


def test_a_gzipped_source_is_unpacked(cache: Path, declare: Any, server: Any) -> None:
    source = {"url": f"{server.url}/{{path}}.gz", "unpack": "gz"}
    declare("toy", {"f": b"x" * 5000}, sources=[source])
    server.routes["/f.gz"] = gzip.compress(b"x" * 5000)
    assert tree(fetch("toy")) == {"f": b"x" * 5000}


BAD_ARCHIVES = {
    "none": b"no archive",
    "evil": tarball({"../evil": b"x"}),
    "other": tarball({"f": b""}),
}


@pytest.mark.parametrize("served", BAD_ARCHIVES.values(), ids=BAD_ARCHIVES)
def test_a_bad_archive_is_asked_for_anew_next_time(
    cache: Path, declare: Any, server: Any, folder_line: Any, served: bytes
) -> None:
    archived(server, folder_line, declare)
    good, server.routes["/a"] = server.routes["/a"], served
    with pytest.raises(DataUnavailable):
        fetch("packed")
    assert locate("packed") is None
    server.routes["/a"] = good
    assert tree(fetch("packed")) == PACKED_TREE


def test_a_damaged_mirror_names_file_and_sums(mirror: Path, declare: Any) -> None:
    declare("toy", FILES)
    put(mirror / "toy", {**FILES, "a.txt": b"damaged"})
    with pytest.raises(CorruptData) as caught:
        resolve("toy", fetch_missing=False)
    error = caught.value
    assert error.file == str(mirror / "toy" / "a.txt")
    assert (error.expected, error.found) == (sha256(FILES["a.txt"]), sha256(b"damaged"))
    assert error.expected in str(error) and "harness data fetch toy" in str(error)
    assert [problem.file for problem in verify("toy")] == ["a.txt"]


def test_an_empty_or_changed_folder_is_noticed(
    mirror: Path, declare: Any, folder_line: Any
) -> None:
    declare("toy", {}, (folder_line("many", FOLDER),))
    root = put(mirror / "toy" / "many", FOLDER)
    resolve("toy", fetch_missing=False)
    for change in (lambda: (root / "extra").write_bytes(b""), lambda: (root / "y.txt").unlink()):
        change()
        with pytest.raises(CorruptData):
            resolve("toy", fetch_missing=False)
        (root / "extra").unlink(missing_ok=True)


@pytest.mark.parametrize(
    "archive", [b"no archive", tarball({"x.txt": b"other"})], ids=["none", "other"]
)
def test_a_damaged_archive_in_the_mirror(
    mirror: Path, declare: Any, server: Any, folder_line: Any, archive: bytes
) -> None:
    archived(server, folder_line, declare)
    put(mirror / "packed", {"notes": b"n", "many.tar.gz": archive})
    with pytest.raises(CorruptData, match=r"many\.tar\.gz"):
        resolve("packed", fetch_missing=True)
    assert not (mirror.parent / "cache" / "data" / "packed").exists()


def test_files_are_hashed_once_per_change(
    mirror: Path, declare: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    declare("toy", FILES)
    root = put(mirror / "toy", FILES)
    hashed: list[str] = []
    original = integrity.hash_file
    spy = lambda path, like="": (hashed.append(path.name), original(path, like))[1]  # noqa: E731
    monkeypatch.setattr(integrity, "hash_file", spy)
    for _ in range(3):
        resolve("toy", fetch_missing=False)
    assert sorted(hashed) == ["a.txt", "b.bin"]
    os.utime(root / "a.txt", ns=(1, 1))
    resolve("toy", fetch_missing=False)
    assert sorted(hashed) == ["a.txt", "a.txt", "b.bin"]


CONTENT = b"what is in it\n"
OTHER_KINDS = [
    "git:9e928477a67ccc3679b502be89249fe44043f8e4",
    "md5:68d1277e97d11ed457fb62fcae343f58",
]


@pytest.mark.parametrize("checksum", OTHER_KINDS)
def test_checksums_of_other_kinds_are_compared_too(
    mirror: Path, declare: Any, server: Any, checksum: str
) -> None:
    sources = [{"url": f"{server.url}/{{path}}", "max_size": 100}]
    declare("toy", {}, (f"{checksum} - f",), sources=sources)
    for served in (b"what is not in", CONTENT * 8):
        server.routes["/f"] = served
        with pytest.raises(DataUnavailable, match=r"checksum|more than the declared 100 bytes"):
            fetch("toy")
    server.routes["/f"] = CONTENT
    assert tree(resolve("toy", fetch_missing=True)) == {"f": CONTENT}
    put(mirror / "toy", {"f": b"what is not in"})
    with pytest.raises(CorruptData, match=checksum):
        resolve("toy", fetch_missing=True)


def test_new_declared_sums_are_checked_even_if_the_file_is_old(mirror: Path, declare: Any) -> None:
    declare("toy", {"f": b"old"})
    put(mirror / "toy", {"f": b"old"})
    resolve("toy", fetch_missing=False)
    declare("toy", {"f": b"new"})
    with pytest.raises(CorruptData):
        resolve("toy", fetch_missing=False)


def test_verify_sees_what_sizes_and_times_do_not_show(mirror: Path, declare: Any) -> None:
    declare("toy", {"f": b"right"})
    path = put(mirror / "toy", {"f": b"right"}) / "f"
    resolve("toy", fetch_missing=False)
    times = path.stat()
    path.write_bytes(b"wrong")
    os.utime(path, ns=(times.st_atime_ns, times.st_mtime_ns))
    (problem,) = verify("toy")
    assert (problem.expected, problem.found) == (sha256(b"right"), sha256(b"wrong"))


def test_a_damaged_cache_is_fetched_anew_on_request(cache: Path, declare: Any, server: Any) -> None:
    declare("toy", {"f": b"right"}, sources=[{"url": f"{server.url}/{{path}}"}])
    server.routes["/f"] = b"right"
    root = fetch("toy")
    (root / "f").write_bytes(b"wrong!")
    with pytest.raises(CorruptData):
        resolve("toy", fetch_missing=True)
    assert tree(fetch("toy")) == {"f": b"right"}
    assert resolve("toy", fetch_missing=False) == root


def test_a_failure_is_remembered_for_an_hour(
    cache: Path, declare: Any, server: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    declare("toy", {"f": b"right"}, sources=[{"url": f"{server.url}/{{path}}"}])
    with pytest.raises(DataUnavailable, match="404"):
        resolve("toy", fetch_missing=True)
    with pytest.raises(DataUnavailable, match=r"404.*tried 0 min ago"):
        resolve("toy", fetch_missing=True)
    assert len(server.requests) == 1
    now = fetching.time.time()
    monkeypatch.setattr(fetching.time, "time", lambda: now + 3601)
    with pytest.raises(DataUnavailable):
        resolve("toy", fetch_missing=True)
    assert len(server.requests) == 2
    server.routes["/f"] = b"right"
    fetch("toy")  # an explicit request does not wait, and clears the note
    (cache / "data" / "toy" / "f").unlink()
    resolve("toy", fetch_missing=True)


def test_large_sets_are_not_downloaded_unasked(cache: Path, declare: Any, server: Any) -> None:
    huge = f"{'0' * 64} 300000001 huge.bin"
    declare("toy", {}, (huge,), sources=[{"url": f"{server.url}/{{path}}"}])
    with pytest.raises(DataUnavailable, match=r"harness data fetch toy. \(300\.0 MB\)"):
        resolve("toy", fetch_missing=True)
    assert server.requests == []
    with pytest.raises(DataUnavailable, match="404"):
        fetch("toy")


def test_without_a_writable_cache_a_mirror_still_serves(
    mirror: Path, declare: Any, server: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    blocked = mirror.parent / "file"
    blocked.write_text("not a folder")
    monkeypatch.setenv("HARNESS_CACHE", str(blocked))
    declare("toy", FILES, sources=[{"url": f"{server.url}/{{path}}"}])
    with pytest.raises(DataUnavailable, match="set HARNESS_CACHE"):
        resolve("toy", fetch_missing=True)
    put(mirror / "toy", FILES)
    assert resolve("toy", fetch_missing=True) == mirror / "toy"


def test_many_processes_download_once(cache: Path, declare: Any, server: Any) -> None:
    declare("toy", FILES, sources=[{"url": f"{server.url}/{{path}}"}])

    def slowly(name: str) -> Any:
        return lambda handler: (server.stopped.wait(0.2), server.send(handler, FILES[name]))

    server.routes.update({f"/{name}": slowly(name) for name in FILES})
    script = (
        "import sys; from pathlib import Path; from harness.data import entries, resolve\n"
        f"entries.FOLDER = Path({str(entries.FOLDER)!r})\n"
        "print(resolve('toy', fetch_missing=True))"
    )
    command = [sys.executable, "-c", script]
    running = [subprocess.Popen(command, stdout=subprocess.PIPE, text=True) for _ in range(4)]
    answers = [process.communicate(timeout=600)[0].strip() for process in running]
    assert answers == [str(cache / "data" / "toy")] * 4
    assert sorted(server.paths) == ["/a.txt", "/deep/b.bin"]
    assert tree(cache / "data" / "toy") == FILES


def test_the_cache_follows_xdg(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    from harness.data import places

    monkeypatch.delenv("HARNESS_CACHE", raising=False)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert places.cached("toy") == tmp_path / "paper-harness" / "data" / "toy"
    monkeypatch.delenv("XDG_CACHE_HOME")
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    assert places.cache() == tmp_path / "home" / ".cache" / "paper-harness"
