"""Data without published checksums: as they were at their first use here, or refused."""

from __future__ import annotations

import io
import json
import zipfile
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from harness import plan
from harness import reproduction as reproduce
from harness.cli import app
from harness.data import (
    CorruptData,
    DataUnavailable,
    contents,
    fetch,
    fingerprint,
    locate,
    places,
    resolve,
    verify,
)
from harness.desk import Setting
from harness.records import Failure, RecordStore
from harness.runner import failed
from harness.specs import catalog

UNCONFIRMED = "unconfirmed (first use on this machine)"


@pytest.fixture
def served(cache: Path, declare: Any, server: Any) -> Any:
    """The set ``toy``, of one confirmed and one unconfirmed file, and its server."""
    sources = [{"url": f"{server.url}/{{path}}", "max_size": 1000}]
    declare("toy", {"known": b"known"}, sources=sources, provided=["unknown"])
    server.routes.update({"/known": b"known", "/unknown": b"first"})
    return server


@pytest.fixture
def own(mirror: Path, declare: Any) -> Path:
    """The set ``own``, which users make themselves."""
    declare("own", {}, provided=["*_train.*", "*_test.*"])
    folder = mirror / "own"
    folder.mkdir()
    (folder / "a_train.csv").write_bytes(b"1")
    (folder / "a_test.csv").write_bytes(b"2")
    return folder


def test_a_download_is_compared_with_the_first_one(cache: Path, served: Any) -> None:
    root = resolve("toy", fetch_missing=True)
    assert (root / "unknown").read_bytes() == b"first"
    assert verify("toy") == []
    (root / "unknown").write_bytes(b"worse")
    with pytest.raises(CorruptData, match="unknown is not the declared file"):
        resolve("toy", fetch_missing=True)
    assert [problem.file for problem in verify("toy")] == ["unknown"]
    assert (fetch("toy") / "unknown").read_bytes() == b"first"
    assert resolve("toy", fetch_missing=False) == root


def test_another_version_at_the_address_is_refused(cache: Path, served: Any) -> None:
    root = fetch("toy")
    (root / "unknown").unlink()
    served.routes["/unknown"] = b"other"
    with pytest.raises(DataUnavailable, match="checksum"):
        fetch("toy")
    assert locate("toy") is None


def test_a_download_of_unknown_size_is_bounded(cache: Path, served: Any) -> None:
    served.routes["/unknown"] = b"x" * 1001
    with pytest.raises(DataUnavailable, match="more than the declared 1000 bytes"):
        fetch("toy")
    assert contents("toy") == ""


def test_files_may_come_in_an_archive(cache: Path, declare: Any, server: Any) -> None:
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w") as archive:
        for name in ("v1/train.csv", "v1/test.csv", "v1/evil.sh"):
            archive.writestr(name, name)
    source = {"url": f"{server.url}/a", "unpack": "archive", "strip": "v1/", "max_size": 10_000}
    declare("toy", {}, sources=[source], provided=["train.csv", "test.csv"])
    server.routes["/a"] = packed.getvalue()
    root = resolve("toy", fetch_missing=True)
    assert sorted(path.name for path in root.iterdir()) == ["test.csv", "train.csv"]
    assert server.paths == ["/a"]


def test_own_files_must_stay_until_their_user_says_otherwise(own: Path) -> None:
    assert resolve("own", fetch_missing=False) == own
    (own / "b_train.csv").write_bytes(b"3")  # one more is not another
    resolve("own", fetch_missing=False)
    for path in ("a_train.csv", "b_train.csv"):
        before = (own / path).read_bytes()
        (own / path).write_bytes(b"changed")
        with pytest.raises(CorruptData, match="replaced on purpose") as caught:
            resolve("own", fetch_missing=False)
        assert str(places.first_use("own")) in str(caught.value)
        (own / path).write_bytes(before)
    (own / "b_train.csv").unlink()
    with pytest.raises(CorruptData, match=r"b_train\.csv"):
        resolve("own", fetch_missing=False)
    places.first_use("own").unlink()
    assert resolve("own", fetch_missing=False) == own


def test_a_damaged_list_of_first_uses_confirms_nothing(own: Path) -> None:
    resolve("own", fetch_missing=False)
    places.first_use("own").write_text("nonsense")
    with pytest.raises(DataUnavailable, match=r"own\.txt, line 1"):
        resolve("own", fetch_missing=False)


def test_versions_are_told_apart_where_they_are_known(own: Path) -> None:
    declared = fingerprint("own")
    assert contents("own") == ""
    seen = set()
    for content in (b"1", b"another", b"1"):
        (own / "a_train.csv").write_bytes(content)
        places.first_use("own").unlink(missing_ok=True)
        resolve("own", fetch_missing=False)
        seen.add(contents("own"))
    assert len(seen) == 2 and declared not in seen
    assert fingerprint("own") == declared, "known without the data, so it can name a trial"


def test_without_a_writable_cache_every_use_is_the_first(
    own: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    blocked = own.parent / "file"
    blocked.write_text("not a folder")
    monkeypatch.setenv("HARNESS_CACHE", str(blocked))
    assert resolve("own", fetch_missing=False) == own
    assert contents("own") == ""


def test_a_record_of_another_version_is_stale(project, edit_spec, own: Path, monkeypatch) -> None:
    monkeypatch.setenv("HARNESS_DATA", str(own.parent))
    edit_spec(lambda spec: spec["datasets"]["real"].update(source="own"))
    spec, said, store = catalog.load("toy"), [], RecordStore(project / "records")

    def trial() -> plan.PlannedTrial:
        chosen = reproduce.available_data(spec, "full", said.append)
        return plan.plan(spec, "full", chosen, seeds=1, variants=["net"])[0]

    first = trial()
    assert said == [f"real is {UNCONFIRMED}"]
    failure = Failure(type="None", message="")
    record = failed(first, Setting(roots={}), failure, datetime.now(UTC), 1.0)
    store.write(record.model_copy(update={"status": "done"}))
    assert plan.states([trial()], store) == {first.id: "fresh"}
    (own / "a_test.csv").write_bytes(b"another version")
    places.first_use("own").unlink()
    assert plan.states([trial()], store) == {first.id: "stale"}
    places.first_use("own").unlink()  # as on a machine that never had the data
    (elsewhere,) = plan.plan(spec, "full", ["real"], seeds=1, variants=["net"])
    assert plan.states([elsewhere], store) == {first.id: "fresh"}


def test_the_command_line_says_so(served: Any) -> None:
    def say(*arguments: str) -> str:
        done = CliRunner().invoke(app, ["data", *arguments], catch_exceptions=False)
        return " ".join(done.output.split())

    assert UNCONFIRMED not in say("status")
    assert UNCONFIRMED in say("fetch", "toy")
    assert UNCONFIRMED in say("status")
    (row,) = json.loads(say("list", "--json"))
    assert (row["where"], row["remark"]) == ("here", UNCONFIRMED)
    assert say("verify") == f"toy: ok, {UNCONFIRMED}"
