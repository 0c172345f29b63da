"""Molecules from SMILES, and their scaffolds.

The grammar is that of the ESOL file: organic atoms, ``[nH]``, bonds, branches, ring closures of
one digit. Anything else is refused.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

import numpy as np

ATOMS = ("C", "N", "O", "F", "P", "S", "Cl", "Br", "I", "c", "n", "o", "s", "[nH]")
BONDS = {"single": 0, "double": 1, "triple": 2, "aromatic": 3}
_TOKEN = re.compile(r"(\[nH\]|Cl|Br|[CNOFPSIcnos])|([-=#/\\])|(\d)|([()])")
_ORDER = {"-": 0, "/": 0, "\\": 0, "=": 1, "#": 2}


Bond = tuple[int, int, int]


def parsed(smiles: str) -> tuple[list[int], list[Bond]]:
    """Atoms, by their places in ``ATOMS``, and bonds (one end, other end, kind in ``BONDS``).

    Raises:
        ValueError: for a token of another grammar, or rings and branches that are not closed.
    """
    reader, place = _Reader(), 0
    while place < len(smiles):
        found = _TOKEN.match(smiles, place)
        if found is None:
            raise ValueError(f"cannot read {smiles!r} from {smiles[place:]!r} on")
        atom, sign, ring, bracket = found.groups()
        place = found.end()
        if atom:
            reader.atom(ATOMS.index(atom))
        elif sign:
            reader.order = _ORDER[sign]
        elif ring:
            reader.ring(ring)
        elif bracket == "(":
            reader.branches.append(reader.last)
        elif reader.branches:
            reader.last = reader.branches.pop()
        else:
            raise ValueError(f"{smiles!r} closes a branch that it has not begun")
    if reader.rings or reader.branches:
        raise ValueError(f"{smiles!r} leaves a ring or a branch open")
    return reader.atoms, reader.bonds


class _Reader:
    """Atoms and bonds so far; the next atom is bound to the ``last`` one."""

    def __init__(self) -> None:
        self.atoms: list[int] = []
        self.bonds: list[Bond] = []
        self.branches: list[int] = []
        self.rings: dict[str, tuple[int, int | None]] = {}
        self.last = -1
        self.order: int | None = None

    def atom(self, kind: int) -> None:
        self.atoms.append(kind)
        if self.last >= 0:
            self._bond(self.last, len(self.atoms) - 1, self.order)
        self.last, self.order = len(self.atoms) - 1, None

    def ring(self, digit: str) -> None:
        """Open a ring at the last atom, or close the one of that digit."""
        if digit in self.rings:
            start, order = self.rings.pop(digit)
            self._bond(start, self.last, self.order if order is None else order)
        else:
            self.rings[digit] = self.last, self.order
        self.order = None

    def _bond(self, one: int, other: int, order: int | None) -> None:
        if order is None:
            ends = (ATOMS[self.atoms[end]].strip("[]")[0] for end in (one, other))
            order = BONDS["aromatic" if all(end.islower() for end in ends) else "single"]
        self.bonds.append((one, other, order))


def scaffolds(atoms: np.ndarray, owner: np.ndarray, pairs: np.ndarray) -> np.ndarray:
    """A number for the scaffold of each molecule: rings and what joins them.

    Atoms with one neighbour are cut off until none is left; what remains is told apart by eight
    rounds of Weisfeiler-Lehman refinement. Molecules without a ring have scaffold 0.

    Args:
        atoms: kinds (n,) of the atoms of all molecules.
        owner: (n,) the molecule of each.
        pairs: bonds (E, 2), both directions, numbered over all molecules.
    """
    left = np.ones(len(atoms), dtype=bool)
    while True:
        within = left[pairs].all(1)
        counted = np.bincount(pairs[within, 0], minlength=len(atoms))
        leaves = left & (counted < 2)
        if not leaves.any():
            break
        left &= ~leaves
    inner = pairs[left[pairs].all(1)]
    colours = _mixed(atoms.astype(np.uint64) + np.uint64(1))
    for _ in range(8):
        around = np.zeros(len(atoms), dtype=np.uint64)
        np.add.at(around, inner[:, 0], colours[inner[:, 1]])
        colours = _mixed(colours * np.uint64(3) + around)
    total = np.zeros(int(owner.max()) + 1, dtype=np.uint64)
    np.add.at(total, owner[left], colours[left])
    return total


def scaffold_split(
    scaffold: np.ndarray, shares: Sequence[float] = (0.8, 0.1)
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Whole scaffolds to training, validation and test, the most frequent ones first.

    As in DeepChem and OGB: a scaffold goes into training if it fits there, else into validation,
    else into the test set; of equally frequent ones the one seen last comes first.
    """
    _, first, inverse, counts = np.unique(
        scaffold, return_index=True, return_inverse=True, return_counts=True
    )
    room = [round(share * len(scaffold)) for share in shares]
    place = np.full(len(counts), 2)
    for group in np.lexsort((first, counts))[::-1]:
        for split in (0, 1):
            if counts[group] <= room[split]:
                room[split] -= counts[group]
                place[group] = split
                break
    train, val, test = (np.flatnonzero(place[inverse] == split) for split in range(3))
    return train, val, test


def _mixed(value: np.ndarray) -> np.ndarray:
    """The finaliser of splitmix64: different numbers to unrelated ones."""
    with np.errstate(over="ignore"):
        value = (value ^ (value >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        value = (value ^ (value >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
        mixed: np.ndarray = value ^ (value >> np.uint64(31))
    return mixed
