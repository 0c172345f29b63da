"""Every paper in the repository: its spec is valid, and its smoke tier runs to a table."""

from __future__ import annotations

import pytest

from harness import paths
from harness.reproduction import reproduce
from harness.specs import catalog, documents
from harness.specs.validate import validate

PAPERS = catalog.paper_keys()


@pytest.fixture
def scratch(tmp_path, monkeypatch) -> None:
    """The real papers, with results and working files elsewhere and no mirror."""
    monkeypatch.setenv("HARNESS_RESULTS", str(tmp_path / "results"))
    monkeypatch.setenv("HARNESS_RUNS", str(tmp_path / "runs"))
    monkeypatch.setenv("HARNESS_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("WANDB_MODE", "disabled")
    for name in ("HARNESS_ROOT", "HARNESS_DATA"):
        monkeypatch.delenv(name, raising=False)


@pytest.mark.parametrize("key", PAPERS)
def test_the_spec_is_valid(key) -> None:
    assert validate(key) == []
    assert documents.problems(key) == []


@pytest.mark.parametrize("key", PAPERS)
def test_the_folder_tells_the_whole_story(key) -> None:
    folder = paths.experiments() / key
    assert (folder / "README.md").is_file()
    for path in folder.rglob("*.py"):
        others = [o for o in PAPERS if o != key and f"experiments.{o}" in path.read_text()]
        assert not others, f"{path.name} imports from {others}: put it into baselines/"


@pytest.mark.parametrize("key", PAPERS)
def test_the_smoke_tier_ends_with_a_table(scratch, key) -> None:
    outcome = reproduce(key, "smoke")
    assert outcome.ran and not outcome.failed
    assert {v.claim for v in outcome.verdicts} == {c.id for c in catalog.load(key).claims}
    assert len(outcome.table) == len(outcome.verdicts)


def test_the_engine_knows_no_paper() -> None:
    engine = paths.root() / "harness"
    for path in engine.rglob("*.py"):
        text = path.read_text()
        assert "from experiments" not in text and "import experiments" not in text, path
    for path in (paths.root() / "baselines").rglob("*.py"):
        text = path.read_text()
        assert "experiments" not in text and "from harness" not in text, path
