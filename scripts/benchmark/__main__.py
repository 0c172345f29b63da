"""Measure what the harness costs: ``python -m scripts.benchmark start isolation``.

Each part writes ``results/benchmark/<part>.json``, and ``results/benchmark.md`` is made of all.
"""

from __future__ import annotations

import argparse
import importlib
import os
import sys
from pathlib import Path
from typing import Any

from harness import paths
from scripts.benchmark import report


def main() -> None:
    parser = argparse.ArgumentParser(prog="benchmark", description=__doc__)
    parser.add_argument("parts", nargs="*", metavar="part", help=f"of {', '.join(report.PARTS)}")
    parser.add_argument("--repeats", type=int, help="instead of each part's own number")
    parser.add_argument("--into", type=Path, default=paths.results(), help="default: results/")
    options = parser.parse_args()
    unknown = [part for part in options.parts if part not in report.PARTS]
    if unknown:
        parser.error(f"no part {unknown[0]!r}; there are {', '.join(report.PARTS)}")
    for part in options.parts or report.PARTS:
        print(f"measuring {part} …", file=sys.stderr)
        given: dict[str, Any] = {"repeats": options.repeats} if options.repeats else {}
        load = os.getloadavg()[0]
        found = importlib.import_module(f"scripts.benchmark.{part}").measure(**given)
        report.save(found.document(load), options.into)
    print(report.write(options.into), file=sys.stderr)


if __name__ == "__main__":
    main()
