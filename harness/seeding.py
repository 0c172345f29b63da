"""Seeds for everything random, derived from the trial's seed and what they are for.

Seeding by purpose (``derive(seed, "shuffle", epoch)``) rather than by drawing from one stream
makes a resumed trial equal to one that never stopped, and shuffling equal across variants.
"""

from __future__ import annotations

import hashlib
import random


def derive(seed: int, *purpose: object) -> int:
    """A 63-bit seed for a purpose; different purposes give independent seeds."""
    digest = hashlib.blake2b(repr((seed, *purpose)).encode(), digest_size=8).digest()
    return int.from_bytes(digest, "big") >> 1


def seed_all(seed: int, *purpose: object) -> None:
    """Seed Python's, NumPy's and torch's global generators (of all devices)."""
    import numpy as np
    import torch

    value = derive(seed, *purpose)
    random.seed(value)
    np.random.seed(value % 2**32)
    torch.manual_seed(value)
