"""Whatever W&B's servers, keys and folders do, a run ends well, soon, and says so once."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from typer.testing import CliRunner

from harness import tracking
from harness.cli import app

pytest.importorskip("wandb")

PATIENCE = 4.0
KEY = "0" * 40
SCRIPT = f"""
import time
from harness import plan
from harness.specs import catalog
from harness.engines.base import Reported, Started
from harness.procedures.base import Progress
from harness.tracking import WandbTracker

paper, said = catalog.load("toy"), []
tracker = WandbTracker(said.append, patience={PATIENCE})
(trial,) = plan.plan(paper, "smoke", ["theory"], seeds=1, variants=["good"])
tracker.begin(paper, [trial], 0)
began = time.monotonic()
for step in range(100):
    progress = Progress(step, 100, {{"score": 1.0}})
    tracker.event(Reported(trial, progress) if step else Started(trial))
told = time.monotonic() - began
tracker.end()
print(len(said), told, time.monotonic() - began, *said, sep="|")
"""


class Server(BaseHTTPRequestHandler):
    """Refuses every key, or never answers."""

    def answer(self) -> None:
        if self.server.hangs:
            threading.Event().wait(60)
        body = b'{"errors": [{"message": "permission denied"}]}'
        self.send_response(401)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    do_GET = do_POST = answer

    def log_message(self, *text: object) -> None: ...


@pytest.fixture
def servers() -> Iterator[dict[str, str]]:
    """Addresses of a server that hangs, one that refuses, and one that is not there."""
    running, urls = [], {"nobody": "http://127.0.0.1:9"}
    for name in ("hangs", "refuses"):
        server = ThreadingHTTPServer(("127.0.0.1", 0), Server)
        server.daemon_threads = True
        server.hangs = name == "hangs"
        threading.Thread(target=server.serve_forever, daemon=True).start()
        running.append(server)
        urls[name] = f"http://127.0.0.1:{server.server_port}"
    yield urls
    for server in running:
        server.shutdown()


def test_no_server_key_or_folder_can_fail_or_hold_up_a_run(project: Path, servers) -> None:
    blocked = project / "blocked"
    blocked.mkdir()
    (blocked / "wandb").write_text("in the way")
    cases = {
        "hangs": {"WANDB_BASE_URL": servers["hangs"], "WANDB_API_KEY": KEY},
        "refuses": {"WANDB_BASE_URL": servers["refuses"], "WANDB_API_KEY": KEY},
        "nobody": {"WANDB_BASE_URL": servers["nobody"], "WANDB_API_KEY": KEY},
        "bad key": {"WANDB_BASE_URL": servers["refuses"], "WANDB_API_KEY": "bad"},
        "no folder": {"WANDB_MODE": "offline", "HARNESS_RUNS": str(blocked)},
    }
    runs = {}
    for name, variables in cases.items():
        environment = os.environ | {"WANDB_MODE": "online", "HOME": str(project)} | variables
        runs[name] = subprocess.Popen(
            [sys.executable, "-c", SCRIPT], env=environment, stdout=subprocess.PIPE, text=True
        )
    for name, run in runs.items():
        printed, _ = run.communicate(timeout=600)
        assert run.returncode == 0, name
        warnings, told, waited, *said = printed.strip().splitlines()[-1].split("|")
        assert int(warnings) == 1 and "W&B" in said[0], f"{name}: said once, {printed}"
        assert float(told) < 0.5, f"{name}: trials do not wait for W&B"
        assert float(waited) < PATIENCE + 3, f"{name}: nor does the end, for long"


@pytest.mark.parametrize(
    ("variables", "says"),
    [
        ({}, "wandb login"),
        ({"WANDB_API_KEY": KEY, "WANDB_BASE_URL": "hangs"}, "does not answer"),
        ({"WANDB_API_KEY": KEY, "WANDB_BASE_URL": "nobody"}, "does not answer"),
        (
            {"WANDB_API_KEY": KEY, "WANDB_BASE_URL": "https://no.host.invalid"},
            "does not answer",
        ),
    ],
)
def test_sync_says_at_once_what_is_missing(
    project: Path, servers, monkeypatch, variables, says
) -> None:
    (project / "runs" / "wandb" / "offline-run-1-a").mkdir(parents=True)
    for name in ("WANDB_API_KEY", "WANDB_BASE_URL", "WANDB_IDENTITY_TOKEN_FILE", "NETRC"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HOME", str(project))
    monkeypatch.setattr(tracking, "REACH", 0.5)
    monkeypatch.setattr(tracking, "sync", lambda folders: pytest.fail("it could not"))
    for name, value in variables.items():
        monkeypatch.setenv(name, servers.get(value, value))
    done = CliRunner().invoke(app, ["sync"])
    assert done.exit_code == 1 and says in done.output


def test_sync_uploads_with_a_key_and_a_server(project: Path, servers, monkeypatch) -> None:
    (project / "runs" / "wandb" / "offline-run-1-a").mkdir(parents=True)
    (project / "netrc").write_text("machine 127.0.0.1 login user password secret")
    monkeypatch.delenv("WANDB_API_KEY", raising=False)
    monkeypatch.setenv("NETRC", str(project / "netrc"))
    monkeypatch.setenv("WANDB_BASE_URL", servers["refuses"])
    taken: list[Path] = []
    monkeypatch.setattr(tracking, "sync", lambda folders: taken.extend(folders) or 0)
    assert CliRunner().invoke(app, ["sync"]).exit_code == 0
    assert [folder.name for folder in taken] == ["offline-run-1-a"]
