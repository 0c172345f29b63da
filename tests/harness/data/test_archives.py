"""Hostile and damaged archives, and that honest ones come out as they went in."""

from __future__ import annotations

import contextlib
import gzip
import io
import lzma
import shutil
import stat
import tarfile
import tracemalloc
import zipfile
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from harness.data.archives import Limits, UnsafeArchive, extract, gunzip

LIMITS = Limits(size=10_000_000)


def tar_of(path: Path, *members: tuple[str, bytes], mode: str = "w:gz", **fields: object) -> Path:
    with tarfile.open(path, mode) as archive:  # type: ignore[call-overload]
        for name, content in members:
            info = tarfile.TarInfo(name)
            info.size = len(content)
            for key, value in fields.items():
                setattr(info, key, value)
            archive.addfile(info, io.BytesIO(content))
    return path


def zip_of(path: Path, *members: tuple[str, bytes]) -> Path:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in members:
            archive.writestr(zipfile.ZipInfo(name), content, zipfile.ZIP_DEFLATED)
    return path


def contents(folder: Path) -> dict[str, bytes]:
    files = (p for p in folder.rglob("*") if p.is_file())
    return {p.relative_to(folder).as_posix(): p.read_bytes() for p in files}


@pytest.mark.parametrize("mode", ["w", "w:gz", "w:bz2", "w:xz", "zip"])
def test_honest_archives_come_out_whole(tmp_path: Path, mode: str) -> None:
    members = [("a/one.txt", b"1" * 5000), ("a/b/two.bin", bytes(range(256))), ("empty", b"")]
    path = tmp_path / "archive"  # without a suffix: the format is told by the content
    archive = zip_of(path, *members) if mode == "zip" else tar_of(path, *members, mode=mode)
    assert extract(archive, tmp_path / "out", LIMITS) == 3
    assert contents(tmp_path / "out") == dict(members)


def test_a_tar_that_ends_in_a_zip_is_still_a_tar(tmp_path: Path) -> None:
    inner = zip_of(tmp_path / "inner", ("../evil", b"x")).read_bytes()
    archive = tar_of(tmp_path / "a", ("inner.zip", inner), mode="w")
    extract(archive, tmp_path / "out", LIMITS)
    assert contents(tmp_path / "out") == {"inner.zip": inner}


@pytest.mark.parametrize(
    "name", ["../up", "a/../../up", "/abs", "a\\..\\up", "C:/up", "..", "a/../b"]
)
def test_names_that_leave_the_folder_are_refused(tmp_path: Path, name: str) -> None:
    for build in (tar_of, zip_of):
        with pytest.raises(UnsafeArchive):
            extract(build(tmp_path / "a", (name, b"x")), tmp_path / "out" / "in", LIMITS)
    assert contents(tmp_path / "out") == {}
    assert not (tmp_path / "up").exists()


@pytest.mark.parametrize(
    "kind",
    [tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.CHRTYPE, tarfile.BLKTYPE, tarfile.FIFOTYPE],
)
def test_links_and_devices_in_a_tar_are_refused(tmp_path: Path, kind: bytes) -> None:
    archive = tar_of(tmp_path / "a", ("link", b""), type=kind, linkname="/etc/passwd")
    with pytest.raises(UnsafeArchive, match="neither a file nor a folder"):
        extract(archive, tmp_path / "out", LIMITS)
    assert not (tmp_path / "out").exists()


def test_a_link_in_a_zip_is_refused(tmp_path: Path) -> None:
    info = zipfile.ZipInfo("link")
    info.external_attr = (stat.S_IFLNK | 0o777) << 16
    with zipfile.ZipFile(tmp_path / "a", "w") as archive:
        archive.writestr(info, "/etc/passwd")
    with pytest.raises(UnsafeArchive, match="neither a file nor a folder"):
        extract(tmp_path / "a", tmp_path / "out", LIMITS)


def test_an_encrypted_member_is_refused(tmp_path: Path) -> None:
    data = bytearray(zip_of(tmp_path / "a", ("f", b"secret")).read_bytes())
    for magic, offset in ((b"PK\3\4", 6), (b"PK\1\2", 8)):
        data[data.index(magic) + offset] |= 1
    (tmp_path / "a").write_bytes(data)
    with pytest.raises(UnsafeArchive, match="encrypted"):
        extract(tmp_path / "a", tmp_path / "out", LIMITS)


@pytest.mark.filterwarnings("ignore:Duplicate name")
@pytest.mark.parametrize("names", [("f", "f"), ("f", "./f"), ("d/f", "d"), ("d", "d/f")])
def test_two_members_for_one_place_are_refused(tmp_path: Path, names: tuple[str, str]) -> None:
    for build in (tar_of, zip_of):
        archive = build(tmp_path / "a", *((name, b"x") for name in names))
        with pytest.raises(UnsafeArchive, match=r"twice|two members"):
            extract(archive, tmp_path / "out", LIMITS)
        assert not (tmp_path / "out").exists()


def test_bombs_are_refused_by_size_ratio_and_count(tmp_path: Path) -> None:
    zeros = ("zeros", bytes(30_000_000))
    for build in (tar_of, zip_of):
        bomb = build(tmp_path / "bomb", zeros)
        assert bomb.stat().st_size < 100_000
        with pytest.raises(UnsafeArchive, match="more than 29999999 bytes"):
            extract(bomb, tmp_path / "out", Limits(size=29_999_999, ratio=1e9))
        with pytest.raises(UnsafeArchive, match="more than"):  # by its ratio of about 1000
            extract(bomb, tmp_path / "out", Limits(size=10**12))
        many = build(tmp_path / "many", *((f"f{i}", b"") for i in range(50)))
        with pytest.raises(UnsafeArchive, match="more than 49 members"):
            extract(many, tmp_path / "out", Limits(size=1000, entries=49))
    assert not (tmp_path / "out").exists()


def test_a_bomb_counts_even_if_its_member_is_not_wanted(tmp_path: Path) -> None:
    bomb = tar_of(tmp_path / "bomb", ("zeros", bytes(30_000_000)))
    with pytest.raises(UnsafeArchive, match="more than"):
        extract(bomb, tmp_path / "out", LIMITS, lambda name: None)


def test_a_zip_that_lies_about_a_size_is_refused(tmp_path: Path) -> None:
    path = zip_of(tmp_path / "a", ("f", bytes(2_000_000)))
    data = path.read_bytes().replace((2_000_000).to_bytes(4, "little"), (10).to_bytes(4, "little"))
    path.write_bytes(data)
    with pytest.raises(UnsafeArchive):
        extract(path, tmp_path / "out", LIMITS)


@pytest.mark.parametrize("cut", [0.3, 0.9])
@pytest.mark.parametrize("mode", ["w:gz", "w:bz2", "w:xz", "zip"])
def test_a_truncated_archive_leaves_nothing(tmp_path: Path, mode: str, cut: float) -> None:
    noise = bytes((i * i * 7919 >> 3) & 255 for i in range(200_000))
    path = tmp_path / "a"
    archive = zip_of(path, ("f", noise)) if mode == "zip" else tar_of(path, ("f", noise), mode=mode)
    data = archive.read_bytes()
    archive.write_bytes(data[: int(len(data) * cut)])
    with pytest.raises(UnsafeArchive):
        extract(archive, tmp_path / "out", LIMITS)
    assert [p.name for p in tmp_path.iterdir()] == ["a"]


def test_what_is_no_archive_is_refused(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(b"<html>Not found</html>" * 100)
    with pytest.raises(UnsafeArchive, match="damaged or of an unknown kind"):
        extract(tmp_path / "a", tmp_path / "out", LIMITS)


def test_an_existing_folder_is_not_written_into(tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    with pytest.raises(FileExistsError):
        extract(tar_of(tmp_path / "a", ("f", b"x")), tmp_path / "out", LIMITS)


def test_members_can_be_renamed_and_left_out(tmp_path: Path) -> None:
    archive = tar_of(tmp_path / "a", ("top/keep", b"k"), ("top/drop", b"d"), ("other", b"o"))
    rename = {"top/keep": "kept/here"}.get
    assert extract(archive, tmp_path / "out", LIMITS, rename) == 1
    assert contents(tmp_path / "out") == {"kept/here": b"k"}


PIECES = st.sampled_from(["..", ".", "", "a", "b", "a\\b", "~", "C:", "\N{SNOWMAN}"])
NAMES = st.lists(PIECES, min_size=1, max_size=4).map("/".join).filter(bool)


@settings(max_examples=150)
@given(names=st.lists(NAMES, min_size=1, max_size=4), as_zip=st.booleans())
@pytest.mark.filterwarnings("ignore:Duplicate name")
def test_no_name_ever_writes_outside(
    tmp_path_factory: pytest.TempPathFactory, names: list[str], as_zip: bool
) -> None:
    base = tmp_path_factory.mktemp("any")
    build = zip_of if as_zip else tar_of
    archive = build(base / "archive", *((name, b"x") for name in names))
    inside = base / "deep" / "er" / "out"
    try:
        extract(archive, inside, LIMITS)
    except UnsafeArchive:
        assert not inside.exists()
    outside = [p for p in base.rglob("*") if p.is_file() and inside not in p.parents]
    assert outside == [base / "archive"]


def test_gunzip_wants_exactly_the_declared_size(tmp_path: Path) -> None:
    packed = tmp_path / "f.gz"
    packed.write_bytes(gzip.compress(b"x" * 1000))
    gunzip(packed, tmp_path / "f", 1000)
    assert (tmp_path / "f").read_bytes() == b"x" * 1000
    for size in (999, 1001):
        with pytest.raises(UnsafeArchive):
            gunzip(packed, tmp_path / "g", size)
    packed.write_bytes(gzip.compress(b"x" * 1000)[:-4])
    with pytest.raises(UnsafeArchive, match="damaged"):
        gunzip(packed, tmp_path / "g", 1000)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["f", "f.gz"]


@pytest.mark.parametrize("kind", [b"L", b"K", b"x", b"g"])
@pytest.mark.parametrize("mode", ["", "xz", "gz"])
def test_a_header_that_unpacks_to_gigabytes_is_not_read(
    tmp_path: Path, kind: bytes, mode: str
) -> None:
    """Long names and extended headers have a size, which is not that of the archive."""
    info = tarfile.TarInfo("long")
    info.type, info.size = kind, 600_000_000
    path = tmp_path / f"a.tar.{mode}"
    opener = {"": open, "xz": lzma.open, "gz": gzip.open}[mode]
    with opener(path, "wb") as file:
        file.write(info.tobuf() + b"x" * 5_000_000)
    tracemalloc.start()
    with pytest.raises(UnsafeArchive, match="a header of"):
        extract(path, tmp_path / "out", Limits(10**9))
    assert tracemalloc.get_traced_memory()[1] < 50_000_000
    tracemalloc.stop()


@pytest.mark.parametrize("name", ["", ".", "a" * 300, f"{'é' * 200}/x", f"x/{'b' * 256}"])
@pytest.mark.parametrize("form", ["zip", "tar"])
def test_names_that_no_file_can_have_are_refused(tmp_path: Path, name: str, form: str) -> None:
    path = tmp_path / "archive"
    if form == "zip":
        with zipfile.ZipFile(path, "w") as archive:
            archive.writestr(zipfile.ZipInfo(name), b"x")
    else:
        with tarfile.open(path, "w") as archive:
            info = tarfile.TarInfo(name)
            info.size = 1
            archive.addfile(info, io.BytesIO(b"x"))
    with pytest.raises(UnsafeArchive):
        extract(path, tmp_path / "out", Limits(1000))
    assert [p.name for p in tmp_path.iterdir()] == ["archive"]


def test_damage_at_any_byte_is_told(tmp_path: Path) -> None:
    """Of a zip's directory and a tar's headers, where offsets and sizes are."""
    for form in ("zip", "tar"):
        path = tmp_path / form
        if form == "zip":
            with zipfile.ZipFile(path, "w") as archive:
                archive.writestr("a", b"xyz")
        else:
            with tarfile.open(path, "w", format=tarfile.PAX_FORMAT) as archive:
                info = tarfile.TarInfo("ä" * 60)
                info.size = 3
                archive.addfile(info, io.BytesIO(b"xyz"))
        whole = path.read_bytes()
        for place in range(0, min(len(whole), 1200)):
            for byte in (0x00, 0x39, 0xFF):
                path.write_bytes(whole[:place] + bytes([byte]) + whole[place + 1 :])
                with contextlib.suppress(UnsafeArchive):
                    extract(path, tmp_path / f"{form}-out", Limits(10_000))
                shutil.rmtree(tmp_path / f"{form}-out", ignore_errors=True)
