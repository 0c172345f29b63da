"""The Ray engine: the same trials on a cluster (``RAY_ADDRESS``, or one started here).

A task on some node runs one group by a local engine of its own there, so that limits, logs and
isolation are the same everywhere. What happens is told through a mailbox, an actor on the driver's
node. The driver alone writes records: nodes need not share the checkout, its code is shipped with
the job. Nodes that do share it are known by a file that the driver puts there; their trials keep
checkpoints and logs in the common folder, so that one whose node is lost goes on elsewhere.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import threading
import time
import uuid
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from harness import data, paths
from harness.desk import Setting, workdir
from harness.engines.base import Event, Finished, Group, Interrupted, alone_last
from harness.engines.leftovers import MARK, scratch, sweep
from harness.engines.local import LocalEngine
from harness.engines.locks import Locks
from harness.engines.queue import Queue
from harness.plan import Limits, PlanError, PlannedTrial
from harness.records import Failure, Record, RecordStore
from harness.runner import failed
from harness.specs.catalog import Problem
from harness.specs.packages import home

try:
    import ray
    from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy
except ModuleNotFoundError as _missing:
    raise PlanError("the Ray engine needs Ray: install the extra `cluster`") from _missing

RETRIES = 3
TICK = 0.3
GRACE = 40.0
SHIPPED = ("harness", "experiments", "baselines")


@dataclass
class _Task:
    """A group under way."""

    group: Group
    started: datetime


class RayEngine:
    """Runs groups as tasks of a Ray cluster, as many at a time as it has room for.

    Args:
        setting: what all trials share.
        store: where the driver writes records.
        jobs: at most so many groups at a time; ``None`` for no limit but the cluster's.
        threads: of each trial; ``None`` for as many as the processors that it asks Ray for.
        grace: seconds that trials get to save their state when the run is stopped.
    """

    def __init__(
        self,
        setting: Setting,
        store: RecordStore,
        jobs: int | None = None,
        threads: int | None = None,
        grace: float = GRACE,
    ) -> None:
        self.setting = setting
        self.store = store
        self.jobs = jobs
        self.threads = threads
        self.grace = grace
        self.stopping = 0
        self._kill_at = float("inf")
        self._unfinished = False
        self.tasks: dict[Any, _Task] = {}
        self.mailbox: Any = None

    def validate(self, key: str) -> list[Problem]:
        """Check the spec's classes on this machine, before anything is shipped."""
        return LocalEngine(self.setting, self.store, 1).validate(key)

    def run(self, groups: Sequence[Group]) -> Iterator[Event]:
        """Yield events until all groups ended. Closing the iterator cancels what still runs.

        Raises:
            Interrupted: the run was stopped and trials are left.
        """
        locks = Locks()
        sweep(groups, locks)
        queue = Queue(alone_last(groups), self.store, self.setting.force, locks)
        packages = {name for group in groups for trial in group for name in trial.packages}
        with _connected(packages) as mark:
            self.mailbox = _mailbox()
            try:
                while self.tasks or (queue and not self.stopping):
                    self._submit(queue, mark)
                    yield from queue.joined(self._listen())
                if queue or self._unfinished:
                    raise Interrupted("stopped; the same command goes on where this run was")
            finally:
                self._cancel()
                queue.close()

    def stop(self) -> None:
        """Let the running trials save their state and end; the second time, end them at once."""
        self.stopping += 1
        self._kill_at = time.monotonic() + (self.grace if self.stopping == 1 else 0.0)

    def _submit(self, queue: Queue, mark: Path) -> None:
        """Hand out groups while the cluster has room; more would only lock them for others."""
        while not self.stopping and len(self.tasks) < self._room():
            group = queue.take()
            if group is None:
                return
            trial, limits = group[0], group[0].limits
            task = _run_group.options(
                num_cpus=_whole_node(limits) if limits.alone else limits.cpus,
                num_gpus=limits.gpus,
                memory=limits.memory,
                max_retries=RETRIES,
                name=f"{trial.paper}: {trial.label}",
            )
            setting = replace(self.setting, threads=self.threads or limits.cpus)
            reference = task.remote(list(group), setting, self.mailbox, str(mark))
            self.tasks[reference] = _Task(group, datetime.now(UTC))

    def _room(self) -> int:
        """Groups that fit at a time, by processors; Ray itself counts the rest."""
        cpus = max((task.group[0].limits.cpus for task in self.tasks.values()), default=1)
        room = max(1, int(_cluster().get("CPU", 1) // cpus))
        return min(room, self.jobs) if self.jobs else room

    def _listen(self) -> Iterator[Event]:
        """Wait a moment for messages and ends."""
        if not self.tasks:
            time.sleep(TICK)
            return
        if self.stopping:
            self.mailbox.stop.remote()
        if time.monotonic() > self._kill_at:
            self._kill_at = float("inf")
            self._cancel()
        ended, _ = ray.wait(list(self.tasks), num_returns=len(self.tasks), timeout=TICK)
        events: list[Event] = ray.get(self.mailbox.take.remote())
        yield from events
        for reference in ended:
            yield from self._end(reference, self.tasks.pop(reference))

    def _end(self, reference: Any, task: _Task) -> Iterator[Event]:
        """Write the records of a task that ended, and of those it left without one."""
        records: dict[str, Record] = {}
        failure = Failure(type="WorkerDied", message="it ended without a result")
        try:
            found, logs = ray.get(reference)
            records = {record.trial: record for record in found}
            _keep_logs(logs)
        except (ray.exceptions.RayError, RuntimeError) as error:
            failure = _failure(error)
        for trial in task.group:
            if trial.id not in records and self.stopping:
                self._unfinished = True
                continue
            record = records.get(trial.id) or self._failed(task, trial, failure)
            try:
                self.store.write(record)
            except OSError as problem:
                text = f"the record could not be written: {problem.strerror}"
                failure = Failure(type="RecordNotWritten", message=text)
                record = self._failed(task, trial, failure)
            yield Finished(trial, record)

    def _failed(self, task: _Task, trial: PlannedTrial, failure: Failure) -> Record:
        seconds = (datetime.now(UTC) - task.started).total_seconds()
        return failed(trial, self.setting, failure, task.started, seconds)

    def _cancel(self) -> None:
        for reference in self.tasks:
            with contextlib.suppress(ray.exceptions.RayError, ValueError):
                ray.cancel(reference, force=True)


@contextlib.contextmanager
def _connected(packages: Collection[str] = ()) -> Iterator[Path]:
    """Connect to the cluster with this checkout's code; yield the file that marks its folder.

    Args:
        packages: of the papers' own, shipped as well; nodes have those that are not found here.
    """
    mark, marks = paths.runs() / f"{MARK}{uuid.uuid4().hex}", Locks()
    marks.acquire(mark)
    code = scratch("code")
    for name in SHIPPED:
        source = paths.root() / name
        if not source.is_dir():  # a project folder of its own has no harness/
            source = Path(__file__).resolve().parents[2] / name
        shutil.copytree(source, code / name, ignore=shutil.ignore_patterns("__pycache__"))
    for name in packages:
        if (folder := home(name)) is not None:
            shutil.copytree(folder / name, code / name)
    try:
        ray.init(
            runtime_env={"working_dir": str(code)},
            log_to_driver=False,
            configure_logging=False,
        )
        yield mark
    finally:
        ray.shutdown()
        marks.close()
        shutil.rmtree(code, ignore_errors=True)


def _cluster() -> dict[str, float]:
    """What the cluster has at the moment: CPU, GPU, memory and its nodes."""
    resources: dict[str, float] = ray.cluster_resources()  # type: ignore[no-untyped-call]
    return resources


def _whole_node(limits: Limits) -> float:
    """As many processors as the largest node has that can run it: on any node that has so many
    free there is no room for anything else."""
    nodes: list[dict[str, Any]] = ray.nodes()  # type: ignore[no-untyped-call]
    has: list[dict[str, float]] = [node["Resources"] for node in nodes if node["Alive"]]
    able = [h.get("CPU", 0.0) for h in has if h.get("GPU", 0.0) >= limits.gpus]
    return max([float(limits.cpus), *able])


class _Mailbox:
    """Carries events to the driver, and the request to stop to the tasks."""

    def __init__(self) -> None:
        self.events: list[Event] = []
        self.stopped = False

    def put(self, event: Event) -> None:
        self.events.append(event)

    def take(self) -> list[Event]:
        taken, self.events = self.events, []
        return taken

    def stop(self) -> None:
        self.stopped = True

    def stopping(self) -> bool:
        return self.stopped


def _mailbox() -> Any:
    here = NodeAffinitySchedulingStrategy(ray.get_runtime_context().get_node_id(), soft=False)
    return ray.remote(_Mailbox).options(num_cpus=0, scheduling_strategy=here).remote()


@ray.remote
def _run_group(
    group: list[PlannedTrial], setting: Setting, mailbox: Any, mark: str
) -> tuple[list[Record], dict[str, tuple[PlannedTrial, str]]]:
    """On a node: run a group, and return its records, and its log if the driver cannot see it."""
    folder = scratch("node")
    shared = Path(mark).exists()
    runs = Path(mark).parent if shared else folder / "runs"
    environment = {
        **setting.environment,
        "HARNESS_ROOT": os.getcwd(),
        "HARNESS_RESULTS": str(folder / "results"),
        "HARNESS_RUNS": str(runs),
    }
    if "CUDA_VISIBLE_DEVICES" in os.environ:
        environment["CUDA_VISIBLE_DEVICES"] = os.environ["CUDA_VISIBLE_DEVICES"]
    os.environ.update(environment)
    local = replace(setting, roots=_roots(setting.roots), environment=environment)
    engine = LocalEngine(local, RecordStore(paths.records()), jobs=1, exclusive=False)
    done = threading.Event()
    threading.Thread(target=_pass_on_stop, args=(engine, mailbox, done), daemon=True).start()
    records = []
    try:
        with contextlib.suppress(Interrupted):
            for event in engine.run([group]):
                if isinstance(event, Finished):
                    records.append(event.record)
                else:
                    mailbox.put.remote(event)
        log = workdir(group[0]) / "log.txt"
        text = log.read_text(errors="replace") if log.exists() and not shared else ""
        return records, {group[0].id: (group[0], text)} if text else {}
    finally:
        done.set()
        shutil.rmtree(folder, ignore_errors=True)


def _pass_on_stop(engine: LocalEngine, mailbox: Any, done: threading.Event) -> None:
    while not done.wait(1.0):
        with contextlib.suppress(ray.exceptions.RayError):
            if ray.get(mailbox.stopping.remote()):
                engine.stop()
                return


def _roots(roots: Mapping[str, Path]) -> dict[str, Path]:
    """Folders of data as this node sees them; what it does not have, it fetches."""
    return {
        name: root if root.is_dir() else data.resolve(name, fetch_missing=True)
        for name, root in roots.items()
    }


def _keep_logs(logs: Mapping[str, tuple[PlannedTrial, str]]) -> None:
    for trial, text in logs.values():
        folder = workdir(trial)
        with contextlib.suppress(OSError):
            folder.mkdir(parents=True, exist_ok=True)
            (folder / "log.txt").write_text(text)


def _failure(error: Exception) -> Failure:
    """What a record says when Ray lost a task for good."""
    if isinstance(error, ray.exceptions.OutOfMemoryError):
        return Failure(type="OutOfMemory", message="ended by Ray: its node ran out of memory")
    if isinstance(error, ray.exceptions.RayTaskError):
        cause = error.cause if isinstance(error.cause, Exception) else error
        return Failure(type=type(cause).__name__, message=str(cause).splitlines()[-1][:500])
    kind = type(error).__name__
    return Failure(type="WorkerDied", message=f"lost {RETRIES + 1} times with its node: {kind}")
