"""Weights & Biases: one run per trial, grouped by paper and tier, offline unless asked otherwise.

Runs are written from the process that plans, in a thread of its own, from the events that workers
send. So no worker waits for W&B, a W&B that fails or hangs costs a trial nothing, and its service
is started once and not once per trial. CSV curves are written by the workers in any case.
"""

from __future__ import annotations

import contextlib
import json
import logging
import netrc
import os
import queue
import secrets
import subprocess
import sys
import threading
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import psutil

from harness import paths, plan
from harness.engines.base import Event, Finished, Reported, Started
from harness.files import write_atomically
from harness.judging.deciding import count, deciding, direction_only
from harness.judging.verdicts import current
from harness.plan import PlannedTrial
from harness.privacy import scrubbed
from harness.records import Record, RecordStore
from harness.specs.schema import Paper

if TYPE_CHECKING:
    from harness.reproduction import Reproduction

PATIENCE = 8.0
REACH = 5.0  # seconds for a server's first answer


def mode() -> str:
    """``WANDB_MODE``, or ``offline`` where the user says nothing."""
    return os.environ.get("WANDB_MODE", "offline")


class WandbTracker:
    """An observer that mirrors a run to W&B.

    Args:
        warn: called once if W&B cannot be used; the run goes on with CSV curves alone.
        patience: seconds to wait for W&B at the end before leaving it behind.
    """

    def __init__(self, warn: Callable[[str], None], patience: float = PATIENCE) -> None:
        self.warn = warn
        self.patience = patience
        self.inbox: queue.Queue[Event | None] = queue.Queue()
        self.thread: threading.Thread | None = None
        self.warned = False

    def announce(self, text: str) -> None:
        """Announcements are for people."""

    def begin(self, paper: Paper, trials: Sequence[PlannedTrial], skipped: int) -> None:
        if mode() == "disabled":
            return
        self.thread = threading.Thread(target=self._work, args=(paper,), name="wandb", daemon=True)
        self.thread.start()

    def event(self, event: Event) -> None:
        if self.thread is not None:
            self.inbox.put(event)

    def end(self) -> None:
        if self.thread is None:
            return
        self.inbox.put(None)
        self.thread.join(self.patience)
        if self.thread.is_alive():
            self._fail("W&B did not finish in time; what it has not written stays in runs/ as CSV")

    def summarise(self, outcome: Reproduction) -> None:
        """Add one run for the paper and tier: its claims as a table, figures, and the records.

        Takes at most ``patience`` seconds, and never fails.
        """
        if mode() == "disabled" or self.warned or outcome.ran == 0:
            return
        thread = threading.Thread(target=self._summarise, args=(outcome,), daemon=True)
        thread.start()
        thread.join(self.patience)
        if thread.is_alive():
            self._fail("W&B did not take the summary in time; the results are in results/")

    def _summarise(self, outcome: Reproduction) -> None:
        try:
            _summary_run(outcome)
        except Exception as error:  # whatever W&B raises, the results stand
            self._fail(f"no summary in W&B ({type(error).__name__}: {_first_line(error)})")

    def _fail(self, reason: str) -> None:
        if not self.warned:
            self.warned = True
            self.warn(reason)
            _abandon_service()

    def _work(self, paper: Paper) -> None:
        runs: dict[str, Any] = {}
        while (event := self.inbox.get()) is not None:
            if self.warned:
                continue
            try:
                _mirror(paper, event, runs)
            except Exception as error:  # whatever W&B raises, the trials go on
                self._fail(
                    f"W&B cannot be used ({type(error).__name__}: {_first_line(error)}); "
                    "curves are in runs/ as CSV"
                )
        for run in runs.values():
            with contextlib.suppress(Exception):
                run.finish(exit_code=1)


def _mirror(paper: Paper, event: Event, runs: dict[str, Any]) -> None:
    trial = event.trial
    if isinstance(event, Started):
        runs[trial.id] = _start(paper, trial)
    elif isinstance(event, Reported) and trial.id in runs:
        figures = _in_units(paper, event.progress.metrics)
        runs[trial.id].log({**figures, "epoch": event.progress.step})
    elif isinstance(event, Finished):
        run = runs.pop(trial.id, None) or _start(paper, trial)
        _finish(paper, run, event.record)
        if event.record.status == "done":
            _unfinished(trial).unlink(missing_ok=True)


def _start(paper: Paper, trial: PlannedTrial) -> Any:
    evidence = plan.evidence(paper, trial.dataset, trial.protocol)
    role = paper.variants[trial.variant].role
    run = _open(
        group=f"{trial.paper}-{trial.tier}",
        name=f"{trial.variant}-{trial.dataset}-{trial.seed}",
        job_type=trial.variant,
        tags=[trial.paper, trial.tier, evidence, role],
        config={
            "paper": trial.paper,
            "tier": trial.tier,
            "variant": trial.variant,
            "role": role,
            "dataset": trial.dataset,
            "evidence": evidence,
            "seed": trial.seed,
            "trial": trial.id,
            "units": {name: metric.unit for name, metric in paper.metrics.items() if metric.unit},
            **trial.fold,
            **trial.config,
        },
        identity=_identity(trial),
    )
    run.define_metric("epoch", hidden=True)
    run.define_metric("*", step_metric="epoch")
    return run


def _identity(trial: PlannedTrial) -> str:
    """The id of the trial's run in W&B: that of its unfinished one, which goes on, or a new one.

    A trial that is run again once it is done, or with other code, is another run.
    """
    path = _unfinished(trial)
    with contextlib.suppress(FileNotFoundError):
        return path.read_text(encoding="utf-8").strip()
    identity = f"{trial.id}-{secrets.token_hex(4)}"
    write_atomically(path, identity)
    return identity


def _unfinished(trial: PlannedTrial) -> Path:
    return paths.runs() / "wandb" / "unfinished" / f"{trial.id}-{trial.code[:16]}"


def _in_units(paper: Paper, figures: Mapping[str, float]) -> dict[str, float]:
    """Figures as tables show them: in percent where the metric is."""
    scales = {name: metric.scale for name, metric in paper.metrics.items()}
    return {scrubbed(name): value * scales.get(name, 1.0) for name, value in figures.items()}


def _open(
    group: str,
    name: str,
    job_type: str,
    tags: Sequence[str],
    config: dict[str, Any],
    identity: str | None = None,
) -> Any:
    import wandb

    logging.getLogger("wandb").setLevel(logging.ERROR)
    folder = paths.runs()  # W&B adds a folder of its own
    folder.mkdir(parents=True, exist_ok=True)
    return wandb.init(
        project=os.environ.get("WANDB_PROJECT", "paper-reproduction"),
        group=group,
        name=name,
        job_type=job_type,
        tags=list(dict.fromkeys(tags)),
        config=scrubbed(config),
        dir=folder,
        id=identity,
        resume="allow" if identity else None,
        mode=mode(),  # type: ignore[arg-type]
        reinit="create_new",
        settings=wandb.Settings(
            silent=True,
            console="off",
            init_timeout=PATIENCE,
            x_disable_stats=True,
            disable_git=True,
            disable_code=True,
            save_code=False,
            x_disable_meta=True,
            host="unnamed",
        ),
    )


def _finish(paper: Paper, run: Any, record: Record) -> None:
    made = record.provenance
    run.config.update(
        {
            "commit": made.commit,
            "dirty": made.dirty,
            "versions": made.versions,
            "hardware": dict(made.hardware),
        },
        allow_val_change=True,
    )
    measured = {name: found.value for name, found in record.metrics.items()}
    run.summary.update(_in_units(paper, measured))
    run.summary.update({"status": record.status, "seconds": record.resources.seconds})
    if speed := record.resources.samples_per_second:
        run.summary.update({"samples_per_second": speed})
    run.finish(exit_code=0 if record.status == "done" else 1)


def _summary_run(outcome: Reproduction) -> None:
    """One run per paper, tier and flags: their claims, figures and records, and no others."""
    import wandb

    from harness.report.leaderboard import collect
    from harness.report.markdown import draw
    from harness.report.rows import COLUMNS, verdict_rows

    key, tier = outcome.paper.key, outcome.tier
    rows = verdict_rows(deciding(outcome.verdicts))
    text = [row | {"n": str(row["n"]), "path": json.dumps(row["path"])} for row in rows]
    counts = {str(kind): n for kind, n in count(outcome.verdicts).items() if n}
    if only := direction_only(outcome.verdicts):
        counts["direction only"] = only
    records = [
        found.record
        for found in current(outcome.paper, tier, outcome.records)
        if found.record.dataset in outcome.datasets
    ]
    evidence = sorted({v.evidence for v in outcome.verdicts if v.evidence})
    name = f"{key}-{tier}" + (f"-{outcome.results.name}" if outcome.quick else "")
    config = {"paper": key, "tier": tier, "title": outcome.paper.title, "quick": outcome.quick}
    run = _open(f"{key}-{tier}", name, "summary", [key, tier, "summary", *evidence], config)
    table = wandb.Table(list(COLUMNS), [[row[name] for name in COLUMNS] for row in text])
    with paths.results_in(outcome.results):
        store = RecordStore.here()
        figures = draw(collect(outcome.paper, store, {tier: outcome.datasets}))
    run.log({"claims": table, **{name: wandb.Html(image) for name, image in figures.items()}})
    artifact = wandb.Artifact(f"{name}-records", type="records")
    for record in records:
        path = store.find(key, tier, record.trial)
        artifact.add_file(str(path), name=path.name, policy="immutable")
    run.log_artifact(artifact)
    run.summary.update({"trials": len(records), **counts})
    run.finish()


def _abandon_service() -> None:
    """End W&B's service: when this program exits, it would wait for a server that hangs."""

    def forget() -> None:
        with contextlib.suppress(BaseException):  # it exits the program when its service failed
            sys.modules["wandb"].teardown(exit_code=1)

    for process in psutil.Process().children():
        with contextlib.suppress(psutil.Error):
            if "wandb" in process.name():
                process.kill()
    if "wandb" in sys.modules:
        thread = threading.Thread(target=forget, daemon=True)
        thread.start()
        thread.join(1.0)


def unsynced() -> list[Path]:
    """Folders of offline runs that were not uploaded yet, oldest first."""
    folders = sorted((paths.runs() / "wandb").glob("offline-run-*"))
    return [f for f in folders if not any(f.glob("*.wandb.synced"))]


def unable() -> str:
    """Why nothing can be uploaded: no key, or no answer within seconds; empty if nothing is wrong.

    W&B's own command would ask for a key, or try a server that does not answer for very long.
    """
    import httpx

    server = os.environ.get("WANDB_BASE_URL", "https://api.wandb.ai")
    if not _has_key(server):
        return "W&B needs a key to upload: `wandb login`, or set WANDB_API_KEY"
    try:
        httpx.get(server, timeout=REACH)
    except httpx.HTTPError as error:
        return f"{server} does not answer ({type(error).__name__}); the runs stay in runs/"
    return ""


def _has_key(server: str) -> bool:
    if any(os.environ.get(name) for name in ("WANDB_API_KEY", "WANDB_IDENTITY_TOKEN_FILE")):
        return True
    try:
        known = netrc.netrc(os.environ.get("NETRC"))
    except (OSError, netrc.NetrcParseError):
        return False
    return known.authenticators(urlsplit(server).hostname or "") is not None


def sync(folders: Sequence[Path]) -> int:
    """Upload offline runs with W&B's own command; returns its exit code."""
    command = [sys.executable, "-m", "wandb", "sync", *map(str, folders)]
    return subprocess.run(command, check=False).returncode


def _first_line(error: Exception) -> str:
    return (str(error).splitlines() or [""])[0][:200]
