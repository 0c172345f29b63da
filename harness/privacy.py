"""What must not be said of this machine in anything that others may read: folders, user, host.

The last name of a path is kept where it has an ending (it says which file), addresses of the web
are kept whole, and where a path ends is guessed on the safe side: rather a word too many goes.
"""

from __future__ import annotations

import contextlib
import getpass
import platform
import re
import sys
from pathlib import Path
from typing import Any

from harness import paths

_ADDRESS = re.compile(r"(?!file:)\b[a-z][a-z0-9+.-]{0,20}://[^\s'\"<>]+", re.IGNORECASE)
_WORD = r"[^\s/'\"<>|:,;()\\]+"
_QUOTED = re.compile(r"(?<=['\"])/(?:[^/'\"\n]+/)+([^/'\"\n]*)")
_FOLDERS = re.compile(rf"(?<![\w.~>/])/(?:{_WORD}(?: {_WORD}){{0,5}}/)+((?:{_WORD})?)")
_WINDOWS = re.compile(r"(?<![\w\\])(?:[A-Za-z]:\\|\\\\)(?:[^\\\n'\":,;<>|]+\\)+([^\s\\'\":,;<>|]*)")
_SETTING = re.compile(r"\w*")
_UNTOLD = {"root", "localhost"}  # say nothing of anybody


def scrub(text: str) -> str:
    """Take folders, the user's name and the host's name out of a text that others will read."""
    kept = _ADDRESS.findall(text)
    parts = [_scrub(part) for part in _ADDRESS.split(text)]
    return "".join(a + b for a, b in zip(parts, [*kept, ""], strict=True))


def scrubbed(value: Any) -> Any:
    """The same of every text in lists and dictionaries, keys included.

    Single words stay: they are names of settings (``max``) before they are anybody's.
    """
    if isinstance(value, dict):
        return {scrubbed(name): scrubbed(inner) for name, inner in value.items()}
    if isinstance(value, list):
        return [scrubbed(inner) for inner in value]
    return scrub(value) if isinstance(value, str) and not _SETTING.fullmatch(value) else value


def _scrub(text: str) -> str:
    text = text.replace("file://", "")
    known = ((Path(sys.prefix), "<env>"), (paths.root(), "."), (Path.home(), "~"))
    for folder, name in sorted(known, key=lambda one: -len(str(one[0]))):
        if folder != Path("/"):
            text = re.sub(rf"{re.escape(str(folder))}(?=/|$|[\s'\":,;)>])", name, text)
    for pattern in (_QUOTED, _FOLDERS, _WINDOWS):
        text = pattern.sub(lambda found: f"<…>/{found[1]}" if "." in found[1] else "<…>", text)
    for name, instead in _names():
        text = re.sub(rf"(?<![\w/.-]){re.escape(name)}(?![\w-]|\.\w)", instead, text)
    return text


def _names() -> list[tuple[str, str]]:
    """The host's names, longest first, and the user's."""
    host = platform.node()
    names = [(host, "<host>"), (host.split(".")[0], "<host>")]
    with contextlib.suppress(OSError, KeyError, ImportError):  # none, as in some containers
        names.append((getpass.getuser(), "<user>"))
    return [(name, word) for name, word in names if len(name) > 2 and name not in _UNTOLD]
