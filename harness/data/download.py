"""Downloads over http(s): resumed where they broke off, bounded in size, checked when whole."""

from __future__ import annotations

import ipaddress
import json
import re
import socket
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import httpx

from harness.data.integrity import hash_file

Report = Callable[[str, int, int], None]

CONNECT_SECONDS = 5.0
SILENCE_SECONDS = 30.0
SLOWEST = 500.0  # bytes a second over that time
ATTEMPTS = 3


class DownloadFailed(Exception):
    """A file could not be had from an address; the message says why."""


class _Passing(Exception):
    """A fault that may be gone at the next attempt: a broken connection, an overloaded server."""


@dataclass(frozen=True)
class Target:
    """What a download must yield.

    Attributes:
        path: where the file goes; ``<path>.part`` holds it until it is whole and checked.
        most: bytes at which the transfer is given up.
        size: exact bytes, where known.
        checksum: as a listing has it; empty where there is none.
    """

    path: Path
    most: int
    size: int | None = None
    checksum: str = ""

    @property
    def part(self) -> Path:
        return self.path.with_name(f"{self.path.name}.part")

    @property
    def note(self) -> Path:
        """Which version of the file the part is of."""
        return self.path.with_name(f"{self.path.name}.part.version")

    def forget(self) -> None:
        """Throw away what was transferred."""
        self.part.unlink(missing_ok=True)
        self.note.unlink(missing_ok=True)


def client() -> httpx.Client:
    """An HTTP client for several downloads: short to connect, patient with slow transfers."""
    return httpx.Client(
        follow_redirects=True,
        max_redirects=5,
        timeout=httpx.Timeout(SILENCE_SECONDS, connect=CONNECT_SECONDS),
        headers={"Accept-Encoding": "identity", "User-Agent": "harness-data"},
        event_hooks={"response": [_refuse_inward]},
    )


def _refuse_inward(response: httpx.Response) -> None:
    """Refuse to be sent on to what only this machine or its network can reach.

    Raises:
        DownloadFailed: the address is such a one, and not of the server that sends there.
    """
    if not response.has_redirect_location:
        return
    here, there = response.url, response.url.join(response.headers["Location"])
    if (here.host, here.port) != (there.host, there.port) and not _is_public(there.host):
        raise DownloadFailed(f"{here} leads to {there.host}, which is not on the web")


def _is_public(host: str) -> bool:
    """Whether all addresses of a host are; ``True`` if it has none, for then nothing is there."""
    try:
        found = {str(each[4][0]) for each in socket.getaddrinfo(host, None)}
    except OSError:
        return True
    return all(ipaddress.ip_address(each.partition("%")[0]).is_global for each in found)


def download(http: httpx.Client, url: str, target: Target, report: Report | None = None) -> None:
    """Download one file; goes on where an earlier attempt stopped, if it is the same version.

    Raises:
        DownloadFailed: when the address does not serve the wanted file.
    """
    target.path.parent.mkdir(parents=True, exist_ok=True)
    pieces = int(target.part.exists())
    try:
        pieces += _transfer_patiently(http, url, target, report)
        _accept(url, target)
    except DownloadFailed:
        if pieces < 2 or target.part.exists():
            raise
        _transfer_patiently(http, url, target, report)  # pieces of two versions, or of two files
        _accept(url, target)


def _transfer_patiently(http: httpx.Client, url: str, target: Target, report: Report | None) -> int:
    """Returns how many transfers it took."""
    for attempt in range(1, ATTEMPTS + 1):
        try:
            _transfer(http, url, target, report)
            return attempt
        except _Passing as error:
            if attempt == ATTEMPTS:
                raise DownloadFailed(f"{url}: {error} ({ATTEMPTS} attempts)") from error
        except httpx.UnsupportedProtocol as error:
            raise DownloadFailed(f"{url} leads to an address that is not http(s)") from error
        except (httpx.ConnectError, httpx.ConnectTimeout) as error:
            raise DownloadFailed(f"{url}: no connection ({error})") from error
        except (httpx.HTTPError, httpx.InvalidURL) as error:
            raise DownloadFailed(f"{url}: {error or type(error).__name__}") from error
    raise AssertionError("the last attempt returns or raises")


def _transfer(http: httpx.Client, url: str, target: Target, report: Report | None) -> None:
    """One request, appended to what is there; returns when the server says that it is all."""
    done = target.part.stat().st_size if target.part.exists() else 0
    if target.size is not None and done == target.size:
        return
    version = _version(target)
    # Without a validator or a checksum nobody would notice that the file has changed meanwhile.
    if done >= target.most or not (version.get("validator") or target.checksum):
        target.forget()
        done = 0
    headers = {"Range": f"bytes={done}-"} if done else {}
    if done and version.get("validator"):
        headers["If-Range"] = version["validator"]
    try:
        with http.stream("GET", url, headers=headers) as response:
            if url.startswith("https:") and response.url.scheme != "https":
                raise DownloadFailed(f"{url} leads to an address that is not encrypted")
            done = _start(response, done, target, url)
            _receive(response, done, target, url, report)
    except (httpx.ReadTimeout, httpx.ReadError, httpx.RemoteProtocolError) as error:
        raise _Passing(str(error) or type(error).__name__) from error


def _start(response: httpx.Response, done: int, target: Target, url: str) -> int:
    """Judge the answer's head; returns the offset at which its body begins."""
    status = response.status_code
    if status == 416:  # what we have is no beginning of what the server has: start anew
        target.forget()
        raise _Passing("the server cannot go on where the last transfer stopped")
    if status in (408, 425, 429) or status >= 500:
        raise _Passing(f"the server answered {status} {response.reason_phrase}")
    if status not in (200, 206):
        raise DownloadFailed(f"{url}: the server answered {status} {response.reason_phrase}")
    if status == 200:
        _write_version(response, target)
        return 0
    served = re.match(r"bytes (\d+)-\d+/(\d+|\*)", response.headers.get("Content-Range", ""))
    if served is None or int(served[1]) != done:
        target.forget()
        raise _Passing("the server sent another range than asked for")
    total = _version(target).get("total")
    if total and served[2] not in ("*", total):
        target.forget()
        raise _Passing(f"the file has {served[2]} bytes now, and had {total}")
    return done


def _version(target: Target) -> dict[str, str]:
    """What the server said of the file when its transfer began."""
    try:
        found = json.loads(target.note.read_text())
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}


def _write_version(response: httpx.Response, target: Target) -> None:
    """Keep a strong validator (RFC 9110, section 13.1.5) and the size, to go on by."""
    etag = response.headers.get("ETag", "")
    strong = etag if etag.startswith('"') else response.headers.get("Last-Modified", "")
    total = response.headers.get("Content-Length", "")
    target.note.write_text(json.dumps({"validator": strong, "total": total}))


def _receive(
    response: httpx.Response, done: int, target: Target, url: str, report: Report | None
) -> None:
    expected = _announced(response, done)
    if max(expected or 0, done) > target.most:
        raise DownloadFailed(f"{url}: more than the declared {target.most} bytes")
    total = target.size or expected or 0
    before, since = done, time.monotonic()
    with target.part.open("ab" if done else "wb") as file:
        for chunk in response.iter_raw():  # as it comes, so that what breaks off is not lost
            done += len(chunk)
            if done > target.most:
                file.truncate(0)
                raise DownloadFailed(f"{url}: more than the declared {target.most} bytes")
            file.write(chunk)
            if report is not None:
                report(target.path.name, done, total)
            if (passed := time.monotonic() - since) > SILENCE_SECONDS:
                if done - before < SLOWEST * passed:
                    raise DownloadFailed(f"{url}: {done - before} bytes in {passed:.0f} s")
                before, since = done, time.monotonic()
    if expected is not None and done < expected:
        raise _Passing(f"the transfer stopped after {done} of {expected} bytes")


def _announced(response: httpx.Response, done: int) -> int | None:
    length = response.headers.get("Content-Length", "")
    return done + int(length) if length.isdigit() else None


def _accept(url: str, target: Target) -> None:
    """Move the whole file into place, or throw it away if it is not the declared one.

    Raises:
        DownloadFailed: when size or checksum differ.
    """
    size = target.part.stat().st_size if target.part.exists() else 0
    if target.size is not None and size != target.size:
        target.forget()
        raise DownloadFailed(f"{url}: {size} bytes instead of {target.size}")
    if target.checksum:
        found = hash_file(target.part, target.checksum)
        if found != target.checksum:
            target.forget()
            raise DownloadFailed(f"{url}: checksum {found} instead of {target.checksum}")
    target.part.replace(target.path)
    target.note.unlink(missing_ok=True)
