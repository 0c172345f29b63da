"""The one gate for texts from outside that are shown: nothing in them acts on who reads them.

Control characters move a terminal's cursor, ring, or set its title; marks of writing direction make
one text look like another. They are replaced by characters that show them.
"""

from __future__ import annotations

import re
from typing import Any

_MARKS = "\u061c\u200e\u200f\u2028\u2029\u202a-\u202e\u2066-\u2069\ufff9-\ufffb"
_ACTING = re.compile(f"[\x00-\x08\x0b-\x1f\x7f-\x9f{_MARKS}\ud800-\udfff]")
# The same in the bytes of a JSON file, escaped or not.
_IN_JSON = re.compile(
    rb"\\u(?:00[01789]|061c|20[026]|fff|d[89a-f])|\\[bfr]|[\x7f]|\xc2[\x80-\x9f]|\xd8\x9c"
    rb"|\xe2\x80[\x8e-\x8f\xa8-\xae]|\xe2\x81[\xa6-\xa9]|\xef\xbf[\xb9-\xbb]",
    re.IGNORECASE,
)


def acting(text: str) -> str:
    """The first character of a text that would act, as ``U+001B``; empty if none would."""
    found = _ACTING.search(text)
    return f"U+{ord(found[0]):04X}" if found else ""


def visible(text: str) -> str:
    """The text with a picture or the number of each character that would act (``␛``, ``<202E>``).

    Line feeds and tabs stay.
    """
    return _ACTING.sub(_shown, text.replace("\r\n", "\n"))


def visible_in(value: Any) -> Any:
    """The same of every text in lists and dictionaries, keys included."""
    if isinstance(value, dict):
        return {visible_in(name): visible_in(inner) for name, inner in value.items()}
    if isinstance(value, list):
        return [visible_in(inner) for inner in value]
    return visible(value) if isinstance(value, str) else value


def may_act(raw: bytes) -> bool:
    """Whether texts of a JSON file may hold such characters; a quick look at its bytes."""
    return _IN_JSON.search(raw) is not None


def _shown(found: re.Match[str]) -> str:
    code = ord(found[0])
    if code < 0x20:
        return chr(0x2400 + code)
    return "\u2421" if code == 0x7F else f"<{code:04X}>"
