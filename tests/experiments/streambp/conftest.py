"""A trial as the engine makes one, without data."""

from __future__ import annotations

import pytest
import torch

from harness.procedures.base import Trial
from harness.seeding import seed_all


@pytest.fixture
def trial(tmp_path):
    def make(data=None, model=None, seed: int = 0) -> Trial:
        seed_all(seed, "trial")
        return Trial(seed, data, model or (lambda: None), torch.device("cpu"), tmp_path)

    return make
