"""The same trials on a cluster: here one of several Ray nodes on this machine."""

from __future__ import annotations

import contextlib
import signal
import threading
from pathlib import Path
from types import SimpleNamespace

import pytest

from harness import paths
from harness.engines.base import Finished, Interrupted, Reported
from harness.engines.queue import Queue
from harness.records import RecordStore
from harness.reproduction import Request, reproduce, run

ray = pytest.importorskip("ray", reason="the extra `cluster` is not installed")
cluster_utils = pytest.importorskip("ray.cluster_utils")


@pytest.fixture(scope="module")
def cluster():
    """A driver's node without processors for trials, and room to add others."""
    found = cluster_utils.Cluster(
        initialize_head=True,
        head_node_args={"num_cpus": 0, "include_dashboard": False},
    )
    yield found
    found.shutdown()


@pytest.fixture
def nodes(cluster, unruly, monkeypatch):
    """Two nodes with one processor each."""
    monkeypatch.setenv("RAY_ADDRESS", cluster.address)
    monkeypatch.setenv("HARNESS_CHECKPOINT_EVERY", "0")
    added = [cluster.add_node(num_cpus=1) for _ in range(2)]
    yield added
    for node in added:
        if node in cluster.worker_nodes:
            cluster.remove_node(node)


class Watcher:
    """Calls ``act`` once, when that many steps were reported."""

    def __init__(self, after: int = 10**9, act=None) -> None:
        self.events: list[object] = []
        self.after = after
        self.act = act

    def announce(self, text): ...
    def begin(self, paper, trials, skipped): ...
    def end(self): ...

    def event(self, event) -> None:
        self.events.append(event)
        if sum(isinstance(e, Reported) for e in self.events) >= self.after:
            self.after = 10**9
            self.act()


def measured(records) -> dict:
    assert records
    return {r.trial: (r.status, r.metrics, r.series) for r in records}


def test_a_cluster_that_loses_a_node_measures_what_one_machine_does(
    nodes, cluster, monkeypatch
) -> None:
    monkeypatch.setenv("HARNESS_UNRULY_PAUSE", "0.3")
    lost = threading.Thread(target=cluster.remove_node, args=(nodes[1], False))
    watcher = Watcher(after=6, act=lost.start)
    outcome = run(Request("unruly", "cpu", variants=["loop"], seeds=3, engine="ray"), [watcher])
    lost.join()
    assert not outcome.failed and len(outcome.records) == 3
    finished = [e.trial.id for e in watcher.events if isinstance(e, Finished)]
    assert len(finished) == len(set(finished)) == 3, "each recorded once"
    assert any(isinstance(e, Reported) for e in watcher.events)
    assert list(paths.runs().glob("unruly/cpu/*/log.txt"))
    monkeypatch.setenv("HARNESS_UNRULY_PAUSE", "0")
    local = reproduce("unruly", "cpu", variants=["loop"], seeds=3, force=True)
    assert measured(outcome.records) == measured(local.records)


def test_nodes_that_do_not_share_the_checkout(nodes, edit_unruly, monkeypatch) -> None:
    """Code goes there, records and logs come back; a trial that crashes there fails alone."""
    from harness.engines import ray as engine

    connected = engine._connected

    @contextlib.contextmanager
    def unshared(packages):
        with connected(packages) as mark:
            mark.unlink()
            yield mark

    monkeypatch.setattr(engine, "_connected", unshared)
    edit_unruly(lambda s: s["variants"]["deaf"]["procedure"]["init_args"].update(how="segfault"))
    outcome = run(Request("unruly", "smoke", engine="ray"))
    (failed,) = outcome.failed
    assert "SIGSEGV" in failed.error.message
    (log,) = paths.runs().glob("unruly/smoke/*/log.txt")
    assert log.parent.name == failed.trial and "Segmentation fault" in log.read_text()
    done = {(r.variant, r.seed) for r in outcome.records if r.status == "done"}
    assert done == {("well", 0), ("well", 1), ("deaf", 1)}
    assert not list(paths.runs().glob("unruly/smoke/*/curves.csv")), "working files stay there"


@pytest.mark.parametrize(
    ("asked", "variable", "threads"), [(3, "2", 3), (None, "2", 2), (None, "", 1)]
)
def test_threads_and_limits_of_time_go_to_the_nodes(
    unruly, monkeypatch, asked, variable, threads
) -> None:
    """Looked at where tasks are handed to Ray, of which there is none here."""
    from harness.engines import ray as engine

    given: list[tuple[int, float]] = []

    def remote(group, setting, mailbox, mark):
        given.extend((setting.threads, trial.limits.timeout) for trial in group)
        return object()

    def hand_out(self, groups):
        self._submit(Queue(groups, self.store, False, None), Path())
        return iter(())

    task = SimpleNamespace(options=lambda **resources: SimpleNamespace(remote=remote))
    monkeypatch.setattr(engine, "_run_group", task)
    monkeypatch.setattr(engine, "_cluster", lambda: {"CPU": 2})
    monkeypatch.setattr(engine.RayEngine, "run", hand_out)
    monkeypatch.setenv("OMP_NUM_THREADS", variable)
    request = Request("unruly", "smoke", variants=["well"], engine="ray", threads=asked, timeout=3)
    run(request)
    assert given == [(threads, 180.0)] * 2


def test_a_stopped_cluster_run_goes_on(nodes, monkeypatch) -> None:
    monkeypatch.setenv("HARNESS_UNRULY_PAUSE", "0.2")
    watcher = Watcher(after=3, act=lambda: signal.raise_signal(signal.SIGINT))
    with pytest.raises(Interrupted):
        run(Request("unruly", "cpu", variants=["loop"], seeds=1, engine="ray"), [watcher])
    assert not RecordStore(paths.records()).records()
    assert list(paths.runs().glob("unruly/cpu/*/checkpoints/*.ckpt"))
    monkeypatch.setenv("HARNESS_UNRULY_PAUSE", "0")
    resumed = reproduce("unruly", "cpu", variants=["loop"], seeds=1)
    again = reproduce("unruly", "cpu", variants=["loop"], seeds=1, force=True)
    assert measured(resumed.records) == measured(again.records)


def test_trials_on_nodes_share_parts(nodes, edit_unruly, tmp_path, monkeypatch) -> None:
    monkeypatch.setenv("HARNESS_UNRULY_MADE", str(tmp_path / "made"))
    monkeypatch.setenv("HARNESS_UNRULY_PAUSE", "0.05")
    procedure = {"class_path": "experiments.unruly.parts.Taught", "init_args": {"steps": 6}}
    taught = {"role": "paper", "datasets": ["none"], "procedure": procedure}

    def change(spec: dict) -> None:  # type: ignore[type-arg]
        spec["variants"] |= {"a": {"label": "a", **taught}, "b": {"label": "b", **taught}}
        spec["tiers"]["cpu"].update(variants=["a", "b"], datasets=["none"])

    edit_unruly(change)
    outcome = run(Request("unruly", "cpu", seeds=2, engine="ray"))
    assert sorted((tmp_path / "made").read_text().split()) == ["0", "1"]
    assert measured(outcome.records) == measured(
        reproduce("unruly", "cpu", seeds=2, force=True).records
    )


def test_a_trial_that_is_alone_has_a_node_to_itself(cluster, unruly, edit_unruly, monkeypatch):
    monkeypatch.setenv("RAY_ADDRESS", cluster.address)
    monkeypatch.setenv("HARNESS_UNRULY_PAUSE", "0.1")
    override = {"when": {"variant": "loop"}, "alone": True}
    edit_unruly(lambda spec: spec["tiers"]["cpu"].update(overrides=[override]))
    node = cluster.add_node(num_cpus=2)
    running: set[str] = set()
    most: list[int] = []

    def count(event) -> None:
        if isinstance(event, Reported):
            running.add(event.trial.id)
            most.append(len(running))
        if isinstance(event, Finished):
            running.discard(event.trial.id)

    watcher = Watcher()
    watcher.event = count
    request = Request("unruly", "cpu", variants=["loop"], seeds=3, engine="ray", jobs=3)
    outcome = run(request, [watcher])
    cluster.remove_node(node)
    assert len(outcome.records) == 3 and not outcome.failed
    assert max(most) == 1
