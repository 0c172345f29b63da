from functools import partial

import pytest
import torch

from experiments.monotone_dbm.layers import scattered, softmax, uniform
from experiments.monotone_dbm.model import (
    BoltzmannMachine,
    implicit,
    mean_field,
    settled,
)
from experiments.monotone_dbm.solvers import Settings, fixed_point

KERNELS = [[3, 0, 0], [3, 3, 0], [0, 1, 1]]
EXACT = Settings(1e-11, 2000, 5, 1e-14)


def machine(seed=0, gain=3.0, **settings):
    torch.manual_seed(seed)
    made = BoltzmannMachine(4, 3, 2, [(2, 2, 2)], KERNELS, **settings).double()
    for weight in made.couplings.links.parameters():
        weight.data *= gain
    return made


def examples(count=5):
    generator = torch.Generator().manual_seed(3)
    x = torch.randint(3, (count, 4, 4), generator=generator)
    return x, torch.rand(count, 4, 4, generator=generator) < 0.4


def test_the_settled_point_is_the_one_mean_field_point_and_holds_what_is_seen():
    made = machine()
    x, seen = examples()
    field = made.field(x, seen)
    generator = torch.Generator().manual_seed(0)
    points = [
        settled(field, scattered(made.layers, 5, generator), 0.1, EXACT).point for _ in range(3)
    ]
    for point in points:
        torch.testing.assert_close(point, points[0], rtol=0, atol=1e-8)
    assert float(field.residual(points[0]).detach().max()) < 1e-9
    grey = points[0][:, :48].unflatten(1, (3, 4, 4))
    shown = torch.nn.functional.one_hot(x, 3).movedim(-1, 1).double()
    where = seen[:, None].expand_as(grey)
    assert torch.equal(grey[where], shown[where])
    assert not torch.allclose(grey[~where], shown[~where], atol=0.05)


def test_what_is_hidden_is_not_looked_at():
    made = machine().eval()
    x, seen = examples()
    other = torch.where(seen, x, (x + 1) % 3)
    assert torch.equal(made(x, seen), made(other, seen))
    changed = torch.where(seen, (x + 1) % 3, x)
    assert not torch.allclose(made(x, seen), made(changed, seen))


def test_the_implicit_gradient_is_that_of_a_long_unrolled_iteration():
    made = machine()
    x, seen = examples()
    target = torch.randn(5, sum(n.size for n in made.layers), dtype=torch.float64)

    def gradient(marginals):
        made.zero_grad()
        (marginals * target).sum().backward()
        return torch.cat([p.grad.flatten() for p in made.couplings.parameters()])

    field = made.field(x, seen)
    start = uniform(made.layers, field.held).expand_as(field.held)
    point = settled(field, start, 0.1, EXACT).point
    found = gradient(implicit(field, point, 0.1, EXACT))
    field, q = made.field(x, seen), start
    for _ in range(300):
        q = field.proximal(q, 0.1)
    torch.testing.assert_close(found, gradient(q), rtol=1e-6, atol=1e-8)
    field = made.field(x, seen)
    single = gradient(field.proximal(point, 0.1))
    assert not torch.allclose(found, single, rtol=0.05)


def test_the_jacobian_is_the_transposed_one():
    for structure in ("monotone", "restricted"):
        made = machine(structure=structure)
        x, seen = examples(1)
        field = made.field(x, seen)
        q = field.clamped(softmax(torch.randn(1, field.held.shape[1]).double(), made.layers))
        step = partial(field.proximal, alpha=0.2)
        jacobian = torch.autograd.functional.jacobian(step, q)[0, :, 0]
        v = torch.randn(1, field.held.shape[1], dtype=torch.float64)
        found = field.transposed(q, 0.2)(v)
        torch.testing.assert_close(found * field.free, (v @ jacobian) * field.free)


def test_anderson_is_faster_and_ends_in_the_same_point():
    made = machine()
    field = made.field(*examples())
    start = uniform(made.layers, field.held).expand_as(field.held)
    plain = settled(field, start, 0.1, Settings(1e-6, 5000, 1))
    fast = settled(field, start, 0.1, Settings(1e-6, 5000, 5, 1e-10))
    assert plain.converged and fast.converged and fast.steps < 0.6 * plain.steps
    torch.testing.assert_close(plain.point, fast.point, rtol=0, atol=1e-4)


def test_a_search_that_is_cut_short_says_so():
    found = fixed_point(lambda q: -q, torch.ones(2, 3), Settings(1e-3, 7, 1))
    assert not found.converged and found.steps == 7
    found = fixed_point(lambda q: 0.5 * q + 1, torch.zeros(2, 3), Settings(1e-6, 100, 1))
    assert found.converged and found.steps == pytest.approx(21, abs=2)


def test_damping_is_halved_when_a_training_batch_does_not_settle():
    made = machine(steps=2, tolerance=1e-9)
    x, seen = examples()
    made.train()(x, seen)
    assert float(made.alpha) == 0.0625
    made.eval()
    with torch.no_grad():
        made(x, seen)
    assert float(made.alpha) == 0.0625
    easy = machine(steps=500)
    easy.train()(x, seen)
    assert float(easy.alpha) == 0.125


@pytest.mark.parametrize("updates", ["parallel", "damped", "sequential"])
def test_mean_field_of_a_weak_machine_settles_where_the_proximal_iteration_does(updates):
    made = machine(gain=1.0, structure="restricted")
    field = made.field(*examples())
    start = uniform(made.layers, field.held).expand_as(field.held)
    expected = settled(field, start, 0.1, EXACT).point
    found = mean_field(field, start, updates, 100)
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-8)


def test_a_deep_rbm_is_trained_through_its_updates():
    """The gradient of a weight, by finite differences."""
    made = machine(structure="restricted", updates="parallel", steps=4)
    x, seen = examples()
    weight = next(made.couplings.links.parameters())

    def loss():
        return made(x, seen).square().mean()

    loss().backward()
    slope = float(weight.grad.flatten()[3])
    values = []
    for change in (1e-5, -2e-5):
        weight.data.flatten()[3] += change
        values.append(float(loss().detach()))
    assert slope == pytest.approx((values[0] - values[1]) / 2e-5, rel=1e-5)


def test_half_a_step_is_half_a_step():
    made = machine(structure="restricted")
    field = made.field(*examples())
    start = field.clamped(uniform(made.layers, field.held).expand_as(field.held))
    whole, half = (mean_field(field, start, updates, 1) for updates in ("parallel", "damped"))
    torch.testing.assert_close(half, (start + whole) / 2)


@pytest.mark.parametrize(("updates", "steps"), [("parallel", 6), ("damped", 6), ("sequential", 2)])
def test_from_another_start_a_machine_has_its_own_updates(updates, steps):
    made = machine(structure="restricted", updates=updates)
    field = made.field(*examples())
    start = scattered(made.layers, 5, torch.Generator().manual_seed(0))
    found = made.settle_from(field, start, 6)  # six updates of all, two sweeps of three layers
    torch.testing.assert_close(found, mean_field(field, start, updates, steps))


def test_a_sweep_uses_the_newest_states():
    made = machine(structure="restricted")
    field = made.field(*examples())
    start = uniform(made.layers, field.held).expand_as(field.held)
    one = mean_field(field, start, "sequential", 1)
    assert not torch.allclose(one, mean_field(field, start, "parallel", 1))
    layers = made.layers
    hidden = slice(layers[0].size, layers[0].size + layers[1].size)
    expected = softmax(field.logits(field.clamped(start)), layers)[:, hidden]
    torch.testing.assert_close(one[:, hidden], expected)


def test_logits_are_scaled_by_the_square_of_the_temperatures():
    made = machine().eval()
    x, seen = examples()
    before = made(x, seen)
    made.label_scale.data *= 2
    made.pixel_scale.data[0, 0] *= 3
    ratio = made(x, seen) / before
    torch.testing.assert_close(ratio[:, :2], torch.full((5, 2), 4.0, dtype=torch.float64))
    pixels = ratio[:, 2:].unflatten(1, (3, 4, 4))
    torch.testing.assert_close(pixels[:, :, 0, 0], torch.full((5, 3), 9.0, dtype=torch.float64))
    torch.testing.assert_close(pixels[:, :, 1, 1], torch.ones(5, 3, dtype=torch.float64))


def test_the_authors_machine_takes_a_step():
    """Layers, levels and kernels as the full tier has them, by convolution."""
    torch.manual_seed(0)
    kernels = [[3, 0, 0, 0], [3, 3, 0, 0], [3, 3, 3, 0], [0, 0, 1, 1]]
    made = BoltzmannMachine(28, 20, 10, [(4, 10, 14), (4, 20, 7)], kernels)
    assert not made.couplings.dense
    x = torch.randint(20, (1, 28, 28))
    output = made(x, torch.rand(1, 28, 28) < 0.4)
    assert output.shape == (1, 10 + 20 * 28 * 28)
    output.square().mean().backward()
    assert all(p.grad.isfinite().all() for p in made.couplings.parameters())
