"""Public data sets: what there is, where it lies on this machine, how it is had and checked.

Importing this package needs no torch, NumPy or network. Loaders live in
:mod:`harness.loading`.
"""

from harness.data.entries import Entry, catalogue, fingerprint
from harness.data.errors import BadMirror, CorruptData, DataUnavailable
from harness.data.fetching import fetch
from harness.data.first_use import contents, remark
from harness.data.integrity import Problem
from harness.data.obtain import resolve, verify
from harness.data.places import locate

__all__ = [
    "BadMirror",
    "CorruptData",
    "DataUnavailable",
    "Entry",
    "Problem",
    "catalogue",
    "contents",
    "fetch",
    "fingerprint",
    "locate",
    "remark",
    "resolve",
    "verify",
]
