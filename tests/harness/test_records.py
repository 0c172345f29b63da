"""Records are whole or absent, and say what they are."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from harness.files import write_atomically
from harness.records import (
    Measured,
    Provenance,
    Record,
    RecordStore,
    Resources,
    Series,
    Unreadable,
    frame,
)


def record(**changes) -> Record:
    fields = {
        "trial": "0123456789abcdef",
        "paper": "toy",
        "tier": "cpu",
        "variant": "a",
        "dataset": "d",
        "seed": 0,
        "protocol": "paper",
        "status": "done",
        "metrics": {"accuracy": Measured(value=0.5, stderr=0.1)},
        "series": {"loss": Series(over="epoch", x=[1, 2], y=[3, 4])},
        "provenance": Provenance(code="c", data=""),
        "resources": Resources(started="s", ended="e", seconds=1.5),
    }
    return Record(**{**fields, **changes})


def test_a_record_comes_back_as_it_was(tmp_path) -> None:
    store = RecordStore(tmp_path)
    path = store.write(record())
    assert path == tmp_path / "toy" / "cpu" / "0123456789abcdef.json"
    assert store.read("toy", "cpu", "0123456789abcdef") == record()
    assert store.records("toy") == [record()]
    assert store.records("other") == []


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (lambda d: d.pop("seed"), "seed: Field required"),
        (lambda d: d.update(extra=1), "extra: Extra inputs"),
        (lambda d: d.update(trial="../../etc"), "trial"),
        (lambda d: d["metrics"]["accuracy"].update(value="NaN"), "value"),
        (lambda d: d.update(schema_version=99), "newer than this code"),
        (lambda d: d.update(trial="f" * 16), "its name does not say"),
        (lambda d: d.update(paper="other"), "belongs to other"),
        (lambda d: d["series"]["loss"]["y"].pop(), "equal lengths"),
    ],
)
def test_a_file_that_is_no_record_is_named_and_skipped(tmp_path, change, says) -> None:
    store = RecordStore(tmp_path)
    path = store.write(record())
    data = json.loads(path.read_text())
    change(data)
    path.write_text(json.dumps(data))
    (found,) = store.scan()
    assert isinstance(found, Unreadable) and found.path == path
    assert says in found.reason
    assert store.records() == []


@pytest.mark.parametrize("text", ["", "{", "[]", "null", '{"a": NaN}', "\x00"])
def test_foreign_files_are_skipped(tmp_path, text) -> None:
    path = tmp_path / "toy" / "cpu" / "0123456789abcdef.json"
    path.parent.mkdir(parents=True)
    path.write_text(text)
    assert [type(found) for found in RecordStore(tmp_path).scan()] == [Unreadable]


def test_a_write_that_fails_leaves_the_old_content_and_no_debris(tmp_path, monkeypatch) -> None:
    path = tmp_path / "a.json"
    write_atomically(path, "old")

    def full(handle: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="No space"):
        write_atomically(path, "new")
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


def test_measurements_are_finite() -> None:
    for wrong in (float("nan"), float("inf")):
        with pytest.raises(ValueError):
            Measured(value=wrong)
        with pytest.raises(ValueError):
            Series(over="x", x=[1], y=[wrong])


def test_records_as_a_frame() -> None:
    table = frame([record(), record(seed=1, fold={"split": 2})])
    assert table["accuracy"].tolist() == [0.5, 0.5]
    assert table["fold.split"].tolist()[1] == 2


def test_no_path_of_the_machine_is_recorded(monkeypatch) -> None:
    from harness import paths, privacy

    text = f"File {paths.root()}/harness/x.py, {Path.home()}/secret, /opt/lib/python3.11/y.py"
    scrubbed = privacy.scrub(text)
    assert str(paths.root()) not in scrubbed
    assert str(Path.home()) not in scrubbed
    assert "/opt/lib" not in scrubbed and "y.py" in scrubbed
