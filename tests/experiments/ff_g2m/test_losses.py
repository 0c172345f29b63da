"""The losses against sums over single edges, and the measures in cases known by hand."""

import math

import numpy as np
import pytest
import torch
from scipy.special import softmax
from scipy.stats import entropy

from experiments.ff_g2m.data import UNLABELLED
from experiments.ff_g2m.losses import (
    HighFrequencyLoss,
    LowFrequencyLoss,
    NodeLoss,
    StudentLoss,
    low_frequency,
    pairwise_difference,
)

PAIRS = torch.tensor([[0, 1, 2, 0], [1, 2, 3, 2]])


def logits(seed: int) -> torch.Tensor:
    return 2 * torch.randn(5, 3, generator=torch.Generator().manual_seed(seed))


TEACHER, STUDENT = logits(0), logits(1)


def test_node_loss_is_the_mean_divergence_of_scipy():
    t, s = (softmax(z.numpy(), axis=1) for z in (TEACHER, STUDENT))
    expected = np.mean([entropy(p, q) for p, q in zip(t, s, strict=True)])
    assert float(NodeLoss(TEACHER)(STUDENT)) == pytest.approx(expected, rel=1e-5)


def test_labels_and_terms_are_weighed_by_shares():
    labels = torch.tensor([UNLABELLED, 2, UNLABELLED, UNLABELLED, 0])
    supervised = -np.mean([STUDENT.log_softmax(1)[node, c] for node, c in ((1, 2), (4, 0))])
    terms = [NodeLoss(TEACHER), LowFrequencyLoss(TEACHER, PAIRS)]
    distilled = sum(float(term(STUDENT)) for term in terms)
    expected = 0.3 * supervised + 0.7 * distilled
    assert float(StudentLoss(terms, 0.3)(STUDENT, labels)) == pytest.approx(expected, rel=1e-5)
    assert float(StudentLoss([], 0.3)(STUDENT, labels)) == pytest.approx(supervised, rel=1e-5)


def test_low_frequency_loss_is_the_mean_over_directed_edges_with_loops():
    t, s = (softmax(z.numpy(), axis=1) for z in (TEACHER, STUDENT))
    ends = [(i, j) for i, j in PAIRS.T.tolist()] + [(j, i) for i, j in PAIRS.T.tolist()]
    ends += [(i, i) for i in range(5)]
    expected = np.mean([entropy(t[j], s[i]) for i, j in ends])
    assert float(LowFrequencyLoss(TEACHER, PAIRS)(STUDENT)) == pytest.approx(expected, rel=1e-5)


def test_low_frequency_gradient_is_that_of_the_sum_over_edges():
    i = torch.cat([PAIRS[0], PAIRS[1], torch.arange(5)])
    j = torch.cat([PAIRS[1], PAIRS[0], torch.arange(5)])
    student = STUDENT.clone().requires_grad_()
    edge_by_edge = torch.nn.KLDivLoss(reduction="batchmean", log_target=True)
    direct = edge_by_edge(student.log_softmax(1)[i], TEACHER.log_softmax(1)[j])
    (expected,) = torch.autograd.grad(direct, student)
    (found,) = torch.autograd.grad(LowFrequencyLoss(TEACHER, PAIRS)(student), student)
    assert torch.allclose(found, expected, atol=1e-7)


def test_high_frequency_loss_is_the_mean_over_directed_edges():
    def distribution(z: torch.Tensor, i: int, j: int) -> np.ndarray:
        return softmax(np.abs(z[i].numpy() - z[j].numpy()) / 1.3)

    both = PAIRS.T.tolist() + PAIRS.flip(0).T.tolist()
    terms = [entropy(distribution(TEACHER, *e), distribution(STUDENT, *e)) for e in both]
    loss = HighFrequencyLoss(TEACHER, PAIRS, temperature=1.3)
    assert float(loss(STUDENT)) == pytest.approx(np.mean(terms), rel=1e-5)


def test_high_frequency_loss_sees_differences_and_no_levels():
    loss = HighFrequencyLoss(TEACHER, PAIRS, temperature=1.5)
    shifted = TEACHER + torch.tensor([5.0, -3.0, 1.0])
    assert float(loss(shifted)) == pytest.approx(0, abs=1e-6)
    assert float(loss(-TEACHER)) == pytest.approx(0, abs=1e-6)
    assert float(loss(2 * TEACHER)) > 0.01


def test_low_frequency_loss_of_the_teacher_itself_is_zero_only_on_a_constant_graph():
    constant = TEACHER[:1].expand(5, -1)
    assert float(LowFrequencyLoss(constant, PAIRS)(constant)) == pytest.approx(0, abs=1e-6)
    assert float(LowFrequencyLoss(TEACHER, PAIRS)(TEACHER)) > 0.01


def test_high_frequency_loss_refuses_what_it_cannot_measure():
    with pytest.raises(ValueError, match="without edges"):
        HighFrequencyLoss(TEACHER, PAIRS[:, :0], 1.0)
    with pytest.raises(ValueError, match="positive"):
        HighFrequencyLoss(TEACHER, PAIRS, 0.0)


def test_low_frequency_by_hand():
    pairs = torch.tensor([[0, 1], [1, 2]])
    z = torch.tensor([[1.0, 0.0], [1.0, 1.0], [0.0, 1.0], [-9.0, 5.0]])  # node 3 is isolated
    # nodes 0 and 2 see node 1 at 45 degrees; node 1 sees the mean (1, 1)/2, its own direction
    assert float(low_frequency(z, pairs)) == pytest.approx((2 / math.sqrt(2) + 1) / 3)


def test_pairwise_difference_is_zero_for_rigid_motions_and_one_for_a_constant():
    rotation = torch.linalg.qr(logits(2)[:3]).Q
    moved = TEACHER @ rotation + 4
    assert float(pairwise_difference(moved, TEACHER, PAIRS)) == pytest.approx(0, abs=1e-6)
    assert float(pairwise_difference(torch.ones(5, 3), TEACHER, PAIRS)) == pytest.approx(1)
    assert float(pairwise_difference(TEACHER / 4, TEACHER, PAIRS)) == pytest.approx(0.75)
