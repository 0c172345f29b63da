"""Metrics against torch's loss on all at once."""

import torch
from torch.nn.functional import cross_entropy

from baselines.metrics import CrossEntropy


def test_cross_entropy_weighs_targets_that_count_and_not_batches():
    generator = torch.Generator().manual_seed(0)
    scores = torch.randn(6, 3, 5, generator=generator)
    y = torch.randint(3, (6, 5), generator=generator)
    y[0, :3] = -1
    meter = CrossEntropy(ignore_index=-1)
    for part in (slice(0, 2), slice(2, 6)):
        meter.update(scores[part], y[part])
    expected = cross_entropy(scores.double(), y, ignore_index=-1)
    torch.testing.assert_close(meter.compute(), expected)
