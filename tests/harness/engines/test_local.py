"""Workers on this machine, asked one question."""

from __future__ import annotations

from harness import paths
from harness.engines.local import ask


def test_a_worker_that_is_asked_works_on_the_project_at_hand(monkeypatch, tmp_path) -> None:
    assert ask(paths.root) == paths.root(), "this starts the server that later ones come from"
    monkeypatch.setenv("HARNESS_ROOT", str(tmp_path))
    assert ask(paths.root) == tmp_path.resolve()
