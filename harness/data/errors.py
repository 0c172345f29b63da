"""What can go wrong with a data set, in words that say what to do about it."""

from __future__ import annotations


class DataUnavailable(Exception):
    """A data set is neither on this machine nor to be had from its source.

    Attributes:
        name: the data set's name in the catalogue.
        reason: why, and what would make it available.
    """

    def __init__(self, name: str, reason: str) -> None:
        super().__init__(name, reason)
        self.name = name
        self.reason = reason

    def __str__(self) -> str:
        return f"data set {self.name!r} is unavailable: {self.reason}"


class BadMirror(ValueError):
    """``HARNESS_DATA`` names something that cannot be a mirror folder."""


class CorruptData(Exception):
    """A file of a data set is not the one that the catalogue declares.

    Attributes:
        name: the data set's name in the catalogue.
        file: the file's path.
        expected: the declared checksum.
        found: the checksum of what is there (or what is there instead of a file).
        advice: what to do.
    """

    def __init__(self, name: str, file: str, expected: str, found: str, advice: str) -> None:
        super().__init__(name, file, expected, found, advice)
        self.name = name
        self.file = file
        self.expected = expected
        self.found = found
        self.advice = advice

    def __str__(self) -> str:
        return (
            f"data set {self.name!r}: {self.file} is not the declared file: "
            f"expected the checksum {self.expected}, found {self.found}; {self.advice}"
        )
