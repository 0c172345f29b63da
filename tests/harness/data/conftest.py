"""A catalogue, a cache and a web server of the test's own."""

from __future__ import annotations

import hashlib
import http.server
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import yaml

from harness.data import entries


def sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


@pytest.fixture
def folder_line() -> Callable[[str, dict[str, bytes]], str]:
    """The line of a listing that declares a folder, computed from its files."""

    def line(path: str, content: dict[str, bytes]) -> str:
        listing = "".join(f"{sha256(content[name])}  {name}\n" for name in sorted(content))
        size = sum(map(len, content.values()))
        return f"{sha256(listing.encode())} {size} {path}/ {len(content)}"

    return line


@pytest.fixture
def mirror(tmp_path: Path, cache: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A mirror folder without any set of the test."""
    (tmp_path / "mirror" / "another-set").mkdir(parents=True)
    monkeypatch.setenv("HARNESS_DATA", str(tmp_path / "mirror"))
    return tmp_path / "mirror"


Declare = Callable[..., None]


@pytest.fixture
def declare(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Declare:
    """``declare(name, tree, lines=(), **keys)`` adds a data set to the test's catalogue."""
    folder = tmp_path / "catalogue"
    (folder / "checksums").mkdir(parents=True)
    monkeypatch.setattr(entries, "FOLDER", folder)
    known: dict[str, Any] = {}

    def add(name: str, tree: dict[str, bytes], lines: tuple[str, ...] = (), **keys: Any) -> None:
        own = [f"{sha256(content)} {len(content)} {path}" for path, content in tree.items()]
        listing = "".join(f"{line}\n" for line in [*own, *lines])
        (folder / "checksums" / f"{name}.txt").write_text(listing)
        base = {"title": "A set", "homepage": "http://home.invalid", "licence": "none", **keys}
        known[name] = base if "sources" in keys else {"manual": "ask its authors", **base}
        (folder / "catalog.yaml").write_text(yaml.safe_dump(known))
        entries._load.cache_clear()

    return add


Answer = Callable[[http.server.BaseHTTPRequestHandler], None]


@dataclass
class Server:
    """Serves what is put into ``routes``; ``requests`` are ``(path, Range header)``."""

    url: str
    routes: dict[str, bytes | Answer] = field(default_factory=dict)
    requests: list[tuple[str, str]] = field(default_factory=list)
    stopped: threading.Event = field(default_factory=threading.Event)

    @property
    def paths(self) -> list[str]:
        return [path for path, _ in self.requests]

    @staticmethod
    def send(handler: http.server.BaseHTTPRequestHandler, body: bytes) -> None:
        """Answer with a body, or with the asked end of it."""
        asked = handler.headers.get("Range", "")
        start = int(asked.removeprefix("bytes=").rstrip("-")) if asked else 0
        if start >= len(body) and asked:
            handler.send_response(416)
            handler.end_headers()
            return
        handler.send_response(206 if asked else 200)
        if asked:
            handler.send_header("Content-Range", f"bytes {start}-{len(body) - 1}/{len(body)}")
        handler.send_header("Content-Length", str(len(body) - start))
        handler.end_headers()
        handler.wfile.write(body[start:])


@pytest.fixture
def server() -> Iterator[Server]:
    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            state.requests.append((self.path, self.headers.get("Range", "")))
            answer = state.routes.get(self.path)
            if answer is None:
                self.send_error(404)
            elif isinstance(answer, bytes):
                state.send(self, answer)
            else:
                answer(self)

        def log_message(self, *args: Any) -> None:
            pass

    httpd = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    httpd.daemon_threads = True
    state = Server(f"http://127.0.0.1:{httpd.server_address[1]}")
    thread = threading.Thread(target=httpd.serve_forever, args=(0.01,), daemon=True)
    thread.start()
    yield state
    state.stopped.set()
    httpd.shutdown()
    httpd.server_close()
    thread.join()
