"""Print the licence of every installed distribution; fail where one may not simply be used.

Permissive licences pass, weak copyleft of libraries (LGPL, MPL) and NVIDIA's terms for CUDA too.

    python scripts/licences.py

What a distribution says of itself is read from its metadata: the SPDX expression, the classifiers,
or the free text. Those that say nothing usable are listed in KNOWN, with where the licence stands.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator
from importlib import metadata

PERMISSIVE = re.compile(
    r"\b(MIT|BSD|Apache|PSF|Python Software Foundation|ISC|MPL|Mozilla Public|Unlicense|HPND|0BSD|"
    r"Zlib|CC0|Public Domain|NVIDIA|CMU|Historical Permission|Boost|LGPL|Lesser General)",
    re.IGNORECASE,
)
COPYLEFT = re.compile(r"\bA?GPL|(?<!Lesser )General Public")
KNOWN = {
    "paper-harness": "this project",
}


def licence(found: metadata.Distribution) -> str:
    """What the metadata says, shortest form first; empty where it says nothing."""
    about = found.metadata
    expression = about.get("License-Expression", "")
    classifiers = [
        text.rpartition(" :: ")[2]
        for text in about.get_all("Classifier", [])
        if text.startswith("License ::") and not text.endswith("OSI Approved")
    ]
    free = (about.get("License") or "").strip().splitlines()
    return expression or ", ".join(classifiers) or (free[0] if free else "")


def distributions() -> Iterator[tuple[str, str, str]]:
    """Name, version and licence of everything installed, by name."""
    found = {d.metadata["Name"].lower(): d for d in metadata.distributions()}
    for name, one in sorted(found.items()):
        yield name, one.version, licence(one) or KNOWN.get(name, "")


def main() -> int:
    doubtful = []
    for name, version, text in distributions():
        print(f"{name:32} {version:16} {text[:70]}")
        if name not in KNOWN and (COPYLEFT.search(text) or not PERMISSIVE.search(text)):
            doubtful.append(f"{name}: {text or 'no licence stated'}")
    for line in doubtful:
        print(f"not known to be permissive: {line}", file=sys.stderr)
    return 1 if doubtful else 0


if __name__ == "__main__":
    sys.exit(main())
