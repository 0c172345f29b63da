"""Downloads over http(s): resumed where they broke off, bounded in size, checked when whole."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import httpx

from harness.data.integrity import hash_file

Report = Callable[[str, int, int], None]

CONNECT_SECONDS = 5.0
SILENCE_SECONDS = 30.0
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


def client() -> httpx.Client:
    """An HTTP client for several downloads: short to connect, patient with slow transfers."""
    return httpx.Client(
        follow_redirects=True,
        max_redirects=5,
        timeout=httpx.Timeout(SILENCE_SECONDS, connect=CONNECT_SECONDS),
        headers={"Accept-Encoding": "identity", "User-Agent": "harness-data"},
    )


def download(http: httpx.Client, url: str, target: Target, report: Report | None = None) -> None:
    """Download one file; goes on where an earlier attempt stopped.

    Raises:
        DownloadFailed: when the address does not serve the wanted file.
    """
    target.path.parent.mkdir(parents=True, exist_ok=True)
    resumed = target.part.exists()
    try:
        _transfer_patiently(http, url, target, report)
        _accept(url, target)
    except DownloadFailed:
        if not resumed or target.part.exists():
            raise
        _transfer_patiently(http, url, target, report)  # what was there was of another file
        _accept(url, target)


def _transfer_patiently(
    http: httpx.Client, url: str, target: Target, report: Report | None
) -> None:
    for attempt in range(1, ATTEMPTS + 1):
        try:
            return _transfer(http, url, target, report)
        except _Passing as error:
            if attempt == ATTEMPTS:
                raise DownloadFailed(f"{url}: {error} ({ATTEMPTS} attempts)") from error
        except httpx.UnsupportedProtocol as error:
            raise DownloadFailed(f"{url} leads to an address that is not http(s)") from error
        except (httpx.ConnectError, httpx.ConnectTimeout) as error:
            raise DownloadFailed(f"{url}: no connection ({error})") from error
        except (httpx.HTTPError, httpx.InvalidURL) as error:
            raise DownloadFailed(f"{url}: {error or type(error).__name__}") from error


def _transfer(http: httpx.Client, url: str, target: Target, report: Report | None) -> None:
    """One request, appended to what is there; returns when the server says that it is all."""
    done = target.part.stat().st_size if target.part.exists() else 0
    if target.size is not None and done == target.size:
        return
    if done >= target.most:
        target.part.unlink()
        done = 0
    headers = {"Range": f"bytes={done}-"} if done else {}
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
        target.part.unlink(missing_ok=True)
        raise _Passing("the server cannot go on where the last transfer stopped")
    if status in (408, 425, 429) or status >= 500:
        raise _Passing(f"the server answered {status} {response.reason_phrase}")
    if status not in (200, 206):
        raise DownloadFailed(f"{url}: the server answered {status} {response.reason_phrase}")
    if status == 200:
        return 0
    served = re.match(r"bytes (\d+)-", response.headers.get("Content-Range", ""))
    if served is None or int(served[1]) != done:
        target.part.unlink(missing_ok=True)
        raise _Passing("the server sent another range than asked for")
    return done


def _receive(
    response: httpx.Response, done: int, target: Target, url: str, report: Report | None
) -> None:
    expected = _announced(response, done)
    if max(expected or 0, done) > target.most:
        raise DownloadFailed(f"{url}: more than the declared {target.most} bytes")
    total = target.size or expected or 0
    with target.part.open("ab" if done else "wb") as file:
        for chunk in response.iter_raw():  # as it comes, so that what breaks off is not lost
            done += len(chunk)
            if done > target.most:
                file.truncate(0)
                raise DownloadFailed(f"{url}: more than the declared {target.most} bytes")
            file.write(chunk)
            if report is not None:
                report(target.path.name, done, total)
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
        target.part.unlink(missing_ok=True)
        raise DownloadFailed(f"{url}: {size} bytes instead of {target.size}")
    if target.checksum:
        found = hash_file(target.part, target.checksum)
        if found != target.checksum:
            target.part.unlink()
            raise DownloadFailed(f"{url}: checksum {found} instead of {target.checksum}")
    target.part.replace(target.path)
