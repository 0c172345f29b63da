"""Downloads from a server that breaks off, lies, hangs or leads elsewhere."""

from __future__ import annotations

import hashlib
import http.server
import itertools
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import pytest

from harness.data import download as downloads
from harness.data.download import DownloadFailed, Target, client, download

BODY = bytes(range(256)) * 2000
Handler = http.server.BaseHTTPRequestHandler


def get(server: Any, folder: Path, route: str = "/f", body: bytes = BODY) -> bytes:
    target = Target(folder / "f", len(body), len(body), hashlib.sha256(body).hexdigest())
    with client() as http_client:
        download(http_client, server.url + route, target)
    return target.path.read_bytes()


def test_a_file_arrives_and_progress_is_told(server: Any, tmp_path: Path) -> None:
    server.routes["/f"] = BODY
    told: list[tuple[str, int, int]] = []
    target = Target(tmp_path / "f", len(BODY), len(BODY), hashlib.sha256(BODY).hexdigest())
    with client() as http_client:
        download(http_client, f"{server.url}/f", target, lambda *step: told.append(step))
    assert target.path.read_bytes() == BODY
    assert told[-1] == ("f", len(BODY), len(BODY))
    assert [done for _, done, _ in told] == sorted({done for _, done, _ in told})
    assert [p.name for p in tmp_path.iterdir()] == ["f"]


def test_a_transfer_that_breaks_off_is_resumed(server: Any, tmp_path: Path) -> None:
    def half_then_rest(handler: Handler) -> None:
        if handler.headers.get("Range"):
            server.send(handler, BODY)
            return
        handler.send_response(200)
        handler.send_header("Content-Length", str(len(BODY)))
        handler.end_headers()
        handler.wfile.write(BODY[:100_000])

    server.routes["/f"] = half_then_rest
    assert get(server, tmp_path) == BODY
    assert [asked for _, asked in server.requests] == ["", "bytes=100000-"]


def test_an_earlier_process_is_continued(server: Any, tmp_path: Path) -> None:
    (tmp_path / "f.part").write_bytes(BODY[:1234])
    server.routes["/f"] = BODY
    assert get(server, tmp_path) == BODY
    assert server.requests == [("/f", "bytes=1234-")]


def test_a_server_without_ranges_starts_over(server: Any, tmp_path: Path) -> None:
    def whole(handler: Handler) -> None:
        handler.send_response(200)
        handler.end_headers()
        handler.wfile.write(BODY)

    (tmp_path / "f.part").write_bytes(BODY[:1234])
    server.routes["/f"] = whole
    assert get(server, tmp_path) == BODY


@pytest.mark.parametrize("size", [10, len(BODY), len(BODY) + 5])
def test_what_lies_there_of_another_file_is_replaced(
    server: Any, tmp_path: Path, size: int
) -> None:
    (tmp_path / "f.part").write_bytes(b"?" * size)
    server.routes["/f"] = BODY
    assert get(server, tmp_path) == BODY


def test_another_range_than_asked_for_is_not_appended(server: Any, tmp_path: Path) -> None:
    def from_zero(handler: Handler) -> None:
        if not handler.headers.get("Range"):
            server.send(handler, BODY)
            return
        handler.send_response(206)
        handler.send_header("Content-Range", f"bytes 0-{len(BODY) - 1}/{len(BODY)}")
        handler.end_headers()
        handler.wfile.write(BODY)

    (tmp_path / "f.part").write_bytes(BODY[:1000])
    server.routes["/f"] = from_zero
    assert get(server, tmp_path) == BODY


@pytest.mark.parametrize("served", [BODY[:-1] + b"\0", BODY[:-1], BODY + b"\0"])
def test_wrong_bytes_are_never_put_in_place(server: Any, tmp_path: Path, served: bytes) -> None:
    server.routes["/f"] = served
    with pytest.raises(DownloadFailed, match=r"instead of|more than the declared"):
        get(server, tmp_path)
    assert not (tmp_path / "f").exists()


def test_an_endless_body_is_given_up_at_the_limit(server: Any, tmp_path: Path) -> None:
    sent = 0

    def endless(handler: Handler) -> None:
        nonlocal sent
        handler.send_response(200)
        handler.end_headers()
        for _ in itertools.count():
            try:
                sent += handler.wfile.write(BODY)
            except OSError:
                return

    server.routes["/f"] = endless
    with pytest.raises(DownloadFailed, match=f"more than the declared {len(BODY)} bytes"):
        get(server, tmp_path)
    leftover = (tmp_path / "f.part").stat().st_size
    assert leftover <= len(BODY)


def test_a_missing_file_is_asked_for_once(server: Any, tmp_path: Path) -> None:
    with pytest.raises(DownloadFailed, match="404"):
        get(server, tmp_path)
    assert len(server.requests) == 1


def test_a_failing_server_is_tried_again_and_then_given_up(server: Any, tmp_path: Path) -> None:
    def failing(handler: Handler) -> None:
        handler.send_error(503)

    def recovering(handler: Handler) -> None:
        if len(server.requests) < downloads.ATTEMPTS:
            handler.send_error(500)
        else:
            server.send(handler, BODY)

    server.routes["/f"] = recovering
    assert get(server, tmp_path) == BODY
    (tmp_path / "f").unlink()
    server.requests.clear()
    server.routes["/f"] = failing
    with pytest.raises(DownloadFailed, match="503"):
        get(server, tmp_path)
    assert len(server.requests) == downloads.ATTEMPTS


def test_a_hanging_server_is_given_up(
    server: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def hang(handler: Handler) -> None:
        handler.send_response(200)
        handler.send_header("Content-Length", str(len(BODY)))
        handler.end_headers()
        handler.wfile.write(BODY[:10])
        server.stopped.wait(30)

    monkeypatch.setattr(downloads, "SILENCE_SECONDS", 0.2)
    server.routes["/f"] = hang
    with pytest.raises(DownloadFailed, match="attempts"):
        get(server, tmp_path)
    assert (tmp_path / "f.part").read_bytes() == BODY[:10]  # and the next run goes on from there


def test_no_server_at_all(server: Any, tmp_path: Path) -> None:
    server.url = "http://127.0.0.1:9"
    with pytest.raises(DownloadFailed, match="no connection"):
        get(server, tmp_path)


@pytest.mark.parametrize("scheme", ["file:///etc/passwd", "ftp://127.0.0.1/f", "data:,x"])
def test_a_redirect_off_the_web_is_refused(server: Any, tmp_path: Path, scheme: str) -> None:
    def redirect(handler: Handler) -> None:
        handler.send_response(302)
        handler.send_header("Location", scheme)
        handler.end_headers()

    server.routes["/f"] = redirect
    with pytest.raises(DownloadFailed):
        get(server, tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_a_redirect_to_an_unencrypted_address_is_refused(tmp_path: Path) -> None:
    def answer(request: httpx.Request) -> httpx.Response:
        if request.url.scheme == "https":
            return httpx.Response(302, headers={"Location": "http://h/f"})
        return httpx.Response(200, content=BODY)

    secure = httpx.Client(transport=httpx.MockTransport(answer), follow_redirects=True)
    with secure, pytest.raises(DownloadFailed, match="not encrypted"):
        download(secure, "https://h/f", Target(tmp_path / "f", len(BODY)))
    assert list(tmp_path.iterdir()) == []


def test_redirects_on_the_web_are_followed_but_not_for_ever(server: Any, tmp_path: Path) -> None:
    def to(place: str) -> Callable[[Handler], None]:
        def redirect(handler: Handler) -> None:
            handler.send_response(302)
            handler.send_header("Location", place)
            handler.end_headers()

        return redirect

    server.routes.update({"/f": to("/there"), "/there": BODY, "/loop": to("/loop")})
    assert get(server, tmp_path) == BODY
    with pytest.raises(DownloadFailed, match="redirects"):
        get(server, tmp_path, "/loop")


def versions(server: Any, old: bytes, new: bytes, validator: str = "ETag") -> list[str]:
    """The server breaks off in the old version, and has the new one then; what it was asked."""
    asked: list[str] = []
    names = {id(old): '"old"', id(new): '"new"'}

    def serve(handler: Handler) -> None:
        asked.append(handler.headers.get("If-Range", ""))
        body = old if len(asked) == 1 else new
        begin = handler.headers.get("Range", "")
        stale = asked[-1] and asked[-1] != names[id(body)]
        start = int(begin[6:-1]) if begin and not stale else 0
        handler.send_response(206 if start else 200)
        if validator:
            handler.send_header(validator, names[id(body)])
        if start:
            handler.send_header("Content-Range", f"bytes {start}-{len(body) - 1}/{len(body)}")
        handler.send_header("Content-Length", str(len(body) - start))
        handler.end_headers()
        handler.wfile.write(body[start : start + 100_000] if len(asked) == 1 else body[start:])

    server.routes["/f"] = serve
    return asked


@pytest.mark.parametrize("validator", ["ETag", "Last-Modified", ""])
@pytest.mark.parametrize("new", [BODY[::-1], BODY[::-1] + b"more"])
@pytest.mark.parametrize("listed", [True, False])
def test_two_versions_of_a_file_are_never_joined(
    server: Any, tmp_path: Path, validator: str, new: bytes, listed: bool
) -> None:
    asked = versions(server, BODY, new, validator)
    checksum = hashlib.sha256(new).hexdigest() if listed else ""
    target = Target(tmp_path / "f", len(new), len(new) if listed else None, checksum)
    with client() as http_client:
        download(http_client, f"{server.url}/f", target)
    assert target.path.read_bytes() == new
    assert asked[1] == ('"old"' if validator else "")
    assert [path.name for path in tmp_path.iterdir()] == ["f"], "no part and no note stays"


def test_a_server_that_drips_is_given_up(
    server: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each byte comes before the silence is too long."""
    monkeypatch.setattr(downloads, "SILENCE_SECONDS", 0.2)

    def drip(handler: Handler) -> None:
        handler.send_response(200)
        handler.send_header("Content-Length", str(len(BODY)))
        handler.end_headers()
        for byte in BODY:
            handler.wfile.write(bytes([byte]))
            handler.wfile.flush()
            time.sleep(0.02)

    server.routes["/f"] = drip
    with pytest.raises(DownloadFailed, match=r"\d+ bytes in \d+ s"):
        get(server, tmp_path)


@pytest.mark.parametrize(
    ("host", "public"),
    [
        ("127.0.0.1", False),
        ("10.1.2.3", False),
        ("169.254.169.254", False),
        ("::1", False),
        ("1.1.1.1", True),
        ("no-such-host.invalid", True),
    ],
)
def test_which_addresses_are_public(host: str, public: bool) -> None:
    assert downloads._is_public(host) is public


def test_a_redirect_to_another_local_port_is_refused(server: Any, tmp_path: Path) -> None:
    def elsewhere(handler: Handler) -> None:
        handler.send_response(302)
        handler.send_header("Location", "http://127.0.0.1:9/f")
        handler.end_headers()

    server.routes["/f"] = elsewhere
    with pytest.raises(DownloadFailed, match=r"leads to 127\.0\.0\.1, which is not on the web"):
        get(server, tmp_path)
