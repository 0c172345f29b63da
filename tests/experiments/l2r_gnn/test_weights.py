"""The weight step: gradients against autograd through a real step, memory and clusters by hand."""

import pytest
import torch
from torch import nn
from torch.nn.functional import cross_entropy, mse_loss

pytest.importorskip("torch_geometric")

from experiments.l2r_gnn.decorrelation import effective_share
from experiments.l2r_gnn.released import ReleasedWeights, off_diagonal, phases
from experiments.l2r_gnn.weights import GraphWeights, LookAhead, normalised
from harness.seeding import seed_all


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


def classes(output, target):
    return cross_entropy(output, target, reduction="none")


def squares(output, target):
    return mse_loss(output, target, reduction="none")


def problem(loss):
    seed_all(3)
    head = nn.Linear(4, 3 if loss is classes else 1).double()
    z, held_out = torch.randn(6, 4).double(), torch.randn(5, 4).double()
    y, targets = (torch.randint(3, (n,)) for n in (6, 5))
    if loss is squares:
        y, targets = y.double(), targets.double()
    return head, (z, y), (held_out, targets)


def after_a_step(head, loss, rate, train, validation, w):
    """L_val of a classifier that really makes the step, differentiable in w."""

    def out(z, weight, bias):
        found = z @ weight.T + bias
        return found[:, 0] if found.shape[1] == 1 else found

    parameters = head.weight, head.bias
    total = (w * loss(out(train[0], *parameters), train[1])).mean()
    slopes = torch.autograd.grad(total, parameters, create_graph=True)
    moved = [p - rate * s for p, s in zip(parameters, slopes, strict=True)]
    return loss(out(validation[0], *moved), validation[1]).mean()


@pytest.mark.parametrize("loss", [classes, squares])
def test_look_ahead_is_the_loss_after_a_step_and_so_is_its_gradient(loss):
    head, train, validation = problem(loss)
    w = torch.rand(6, dtype=torch.float64, requires_grad=True)
    found = LookAhead(head, loss, 0.7, train, validation)(w)
    expected = after_a_step(head, loss, 0.7, train, validation, w)
    assert float(found) == pytest.approx(float(expected), rel=1e-9)
    slopes = [torch.autograd.grad(value, w)[0] for value in (found, expected)]
    torch.testing.assert_close(*slopes)
    assert slopes[0].abs().max() > 1e-4


def test_validation_shifts_weight_to_graphs_that_help_it():
    """Half of the training labels are wrong; validation labels are right."""
    seed_all(0)
    y = torch.arange(40) % 2
    z = torch.randn(40, 3) + 4 * y[:, None]
    wrong = torch.arange(40) < 10
    given = torch.where(wrong, 1 - y, y)
    ahead = LookAhead(nn.Linear(3, 2), classes, 0.1, (z, given), (z, y))
    learner = GraphWeights(40, 3, 40, decorrelation=False, penalty=0.0, steps=50, begin=0)
    w = learner(z, torch.arange(40), 0, generator(), lambda: ahead)
    assert w[wrong].mean() < 0.7 * w[~wrong].mean()


def test_weights_are_a_distribution_over_the_batch_and_are_kept_for_each_graph():
    learner = GraphWeights(10, 4, 4, clusters=0, begin=0)
    index = torch.tensor([7, 2, 9, 4])
    w = learner(torch.randn(4, 4, generator=generator()), index, 0, generator(1))
    assert float(w.mean()) == pytest.approx(1, rel=1e-5) and (w > 0).all() and w.std() > 1e-3
    assert torch.equal(learner.weights[index], w)
    assert (learner.weights[[0, 1, 3, 5, 6, 8]] == 1).all()


def test_weights_go_on_from_what_they_were():
    z = torch.randn(6, 4, generator=generator())
    learner = GraphWeights(6, 4, 6, clusters=0, begin=0, steps=0)
    learner.weights.copy_(torch.arange(1.0, 7))
    w = learner(z, torch.arange(6), 0, generator())
    torch.testing.assert_close(w, torch.arange(1.0, 7) / 3.5)


def test_no_weights_are_learned_before_their_time():
    learner = GraphWeights(6, 4, 6, clusters=0, begin=2)
    z = torch.randn(6, 4, generator=generator())
    assert [float(learner(z, torch.arange(6), e, generator()).std()) > 0 for e in (0, 1, 2)] == [
        False,
        False,
        True,
    ]


def dependent(rows=400):
    """Two coordinates, the second an even function of the first, which is more often positive."""
    x = torch.randn(rows, generator=generator(5))
    return torch.stack([x, x.abs() + 0.3 * torch.randn(rows, generator=generator(6))], 1)


@pytest.mark.parametrize("covariance", ["equation", "weighted"])
def test_the_weight_step_lowers_its_objective(covariance):
    """By the same functions as were minimised, which a generator gives again."""
    z = dependent()
    settings = {"clusters": 0, "covariance": covariance, "penalty": 0.0, "begin": 0, "momenta": ()}
    learner = GraphWeights(400, 2, 400, **settings, steps=60, rate=0.05)
    dependence = learner._dependence(z, generator(9))
    w = learner(z, torch.arange(400), 0, generator(9))
    assert dependence(w) < 0.7 * dependence(torch.ones(400))


def test_a_penalty_keeps_the_effective_sample_size():
    z, shares = dependent(), []
    for penalty in (0.0, 10.0):
        settings = {"clusters": 0, "penalty": penalty, "momenta": (), "covariance": "weighted"}
        learner = GraphWeights(400, 2, 400, **settings, begin=0, steps=50)
        shares.append(effective_share(learner(z, torch.arange(400), 0, generator())))
    assert shares[0] < shares[1] - 0.02


def test_pairs_within_a_cluster_are_left_alone():
    learner = GraphWeights(50, 2, 50, penalty=0.0, begin=0, steps=20)
    learner.clusters.copy_(torch.tensor([1, 1]))
    assert learner(dependent(50), torch.arange(50), 0, generator()).std() < 1e-6


def test_memory_is_filled_and_then_averaged_by_its_momenta():
    learner = GraphWeights(6, 2, 3, clusters=0, begin=0, steps=0, momenta=(0.9, 0.5))
    learner.weights.copy_(torch.tensor([1.0, 2, 3, 1, 1, 1]))
    zs = torch.randn(4, 3, 2, generator=generator())
    first, second = torch.arange(3), torch.arange(3, 6)
    learner(zs[0], first, 0, generator())
    learner(zs[1], second, 0, generator())
    assert torch.equal(learner.memory, zs[:2]) and learner.filled == 2
    torch.testing.assert_close(learner.remembered[0], torch.tensor([0.5, 1, 1.5]))
    learner(zs[2], second, 0, generator())
    torch.testing.assert_close(learner.memory[0], 0.9 * zs[0] + 0.1 * zs[2])
    torch.testing.assert_close(learner.memory[1], 0.5 * zs[1] + 0.5 * zs[2])
    torch.testing.assert_close(learner.remembered[0], torch.tensor([0.55, 1, 1.45]))
    before = learner.memory.clone()
    learner(zs[3, :2], first[:2], 0, generator())  # a smaller batch
    assert torch.equal(learner.memory[:, 2], before[:, 2])
    torch.testing.assert_close(learner.memory[1, :2], 0.5 * before[1, :2] + 0.5 * zs[3, :2])


def test_remembered_graphs_count_in_the_dependence():
    """Alone the batch shows none; with the memory's rows coordinates go together."""
    learner = GraphWeights(4, 2, 4, clusters=0, begin=0, functions=0)
    batch = torch.tensor([[1.0, 1], [1, -1], [-1, 1], [-1, -1]])
    alone = learner._dependence(batch, None)(torch.ones(4))
    learner.memory[0] = 5 * torch.tensor([[1.0, 1], [1, 1], [-1, -1], [-1, -1]])
    learner.filled = 1
    together = learner._dependence(batch, None)(torch.ones(4))
    assert alone < 1e-9 and together > 0.1


def test_clusters_come_from_the_correlations_of_the_epoch_before():
    """Coordinates 0 and 1 go together in every batch, 0 and 2 in every other one."""
    learner = GraphWeights(100, 3, 100, clusters=2, refresh=2)
    g = generator()

    def batch(sign):
        x = torch.randn(100, generator=g)
        return torch.stack([x, x, sign * x], 1) + 0.1 * torch.randn(100, 3, generator=g)

    assert len(learner.clusters.unique()) == 1
    for sign in (1, -1, 1, -1):
        learner(batch(sign), torch.arange(100), 0, g)
    learner(batch(1), torch.arange(100), 1, g)
    a, b, c = learner.clusters.tolist()
    assert a == b != c
    learner.clusters.zero_()
    learner(batch(1), torch.arange(100), 2, g)  # clusters are found anew every second epoch
    assert learner.clusters.sum() == 0


def test_random_clusters_are_as_large_as_the_stable_ones():
    sizes, members = [], []
    for grouping in ("stable", "random"):
        learner = GraphWeights(50, 12, 50, clusters=3, grouping=grouping)
        g = generator(4)
        for step in range(6):
            learner(torch.randn(50, 12, generator=g), torch.arange(50), step // 5, g)
        sizes.append(sorted(learner.clusters.bincount().tolist()))
        members.append(learner.clusters)
    assert sizes[0] == sizes[1] and not torch.equal(*members)


def test_normalised_weights_do_not_see_a_constant():
    logarithms = torch.tensor([0.0, 1.0, 2.0])
    torch.testing.assert_close(normalised(logarithms + 5), normalised(logarithms))
    assert float(normalised(logarithms).mean()) == pytest.approx(1)


def test_released_covariances_are_written_out():
    x = torch.randn(8, 3, generator=generator()).double()
    p = torch.rand(8, generator=generator(1)).double()
    p /= p.sum()
    expected = 0.0
    for i in range(3):
        for j in range(3):
            if i != j:
                mean = [sum(p[n] * x[n, k] for n in range(8)) for k in (i, j)]
                both = sum(p[n] * x[n, i] * x[n, j] for n in range(8))
                expected += float(both - mean[0] * mean[1]) ** 2
    assert float(off_diagonal(x, p)) == pytest.approx(expected)


def test_released_angles_span_a_quarter_turn():
    """√2 (cos p + sin p) with p in [0, π/2] lies between √2, at both ends, and 2."""
    found = phases(torch.randn(5, 40, generator=generator()), generator(1))
    assert found.min() >= 2**0.5 - 1e-5 and found.max() <= 2 + 1e-5
    assert (found.amin(1) < 2**0.5 + 1e-4).all()


def test_released_weights_start_afresh_and_remember():
    learner = ReleasedWeights(8, 3, 4)
    z = torch.randn(2, 4, 3, generator=generator())
    w = learner(z[0], torch.arange(4), 0, generator())
    assert float(w.mean()) == pytest.approx(1, rel=1e-5)
    torch.testing.assert_close(learner.memory, z[0])
    learner(z[1], torch.arange(4), 0, generator())
    torch.testing.assert_close(learner.memory, z.mean(0))
    learner.seen = 10
    learner(z[1], torch.arange(4), 1, generator())
    torch.testing.assert_close(learner.memory, 0.9 * z.mean(0) + 0.1 * z[1])
