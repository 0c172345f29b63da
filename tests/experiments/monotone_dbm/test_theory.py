from pathlib import Path

import pytest
import torch

from experiments.monotone_dbm.instances import drawn
from experiments.monotone_dbm.layers import owners, scattered
from experiments.monotone_dbm.solvers import Settings, fixed_point
from experiments.monotone_dbm.theory import (
    Convergence,
    Gradients,
    Uniqueness,
    damping,
    distinct,
    held_at_random,
    stepping,
)
from harness.procedures.base import Trial

EXACT = Settings(1e-11, 2000, 1)


def run(procedure, seed=0):
    found = procedure.run(Trial(seed, None, None, torch.device("cpu"), Path()))
    assert set(found.metrics) == type(procedure).produces({})
    return {name: getattr(value, "value", value) for name, value in found.metrics.items()}


@pytest.mark.parametrize("kind", ["generic", "aligned", "convolutional"])
def test_monotone_machines_have_one_mean_field_point(kind):
    found = run(Uniqueness(kind, machines=2, starts=5))
    assert found["least_curvature"] >= 0.1 - 1e-9
    assert found["spread"] < 1e-8 and found["residual"] < 1e-8 and found["fixed_points"] == 1
    assert found["asymmetry"] < 1e-12
    assert found["coupled"] > 0.8


def test_the_bound_is_nearly_reached_where_all_variables_push_each_other_away():
    assert run(Uniqueness("aligned", machines=3, starts=1))["least_curvature"] < 0.15


def test_machines_outside_the_class_have_several():
    for kind in ("attractive", "unscaled", "generic-unscaled", "convolutional"):
        found = run(Uniqueness(kind, machines=1, starts=6, scaling="none"))
        assert found["least_curvature"] < 0 and found["spread"] > 0.5
        assert found["fixed_points"] > 1.5 and found["residual"] < 1e-6


def test_a_ferromagnet_beyond_its_transition_has_a_point_for_each_value():
    assert run(Uniqueness("attractive", machines=1, starts=30))["fixed_points"] == 3


def test_conditioning_leaves_a_monotone_machine():
    found = run(Uniqueness("aligned", machines=2, starts=5, held=0.5))
    whole = run(Uniqueness("aligned", machines=2, starts=1))
    assert found["spread"] < 1e-8
    assert found["least_curvature"] >= whole["least_curvature"] - 1e-9


def test_softmax_in_place_of_the_operator_settles_somewhere_else():
    assert run(Uniqueness("aligned", machines=2, starts=2, rule="softmax"))["residual"] > 0.1


def test_the_released_scaling_is_not_symmetric():
    found = run(Uniqueness("convolutional", machines=2, starts=2, scaling="rows"))
    assert found["asymmetry"] > 0.1


def test_the_proximal_iteration_settles_where_parallel_updates_do_not():
    settings = {"machines": 2, "starts": 2, "steps": 300}
    proximal = run(Convergence("aligned", **settings))
    assert proximal["settled"] == 1 and proximal["steps_worst"] < 150
    parallel = run(Convergence("aligned", rule="parallel", **settings))
    assert parallel["settled"] == 0 and parallel["steps"] == 300
    faster = run(Convergence("aligned", memory=5, **settings))
    assert faster["settled"] == 1 and faster["steps"] < 0.8 * proximal["steps"]


def test_the_adjoint_gradient_is_that_of_a_dense_system():
    assert run(Gradients("aligned", machines=2))["gradient_error"] < 1e-9
    assert run(Gradients("convolutional", machines=1))["gradient_error"] < 1e-9
    assert run(Gradients("aligned", machines=2, method="last"))["gradient_error"] > 0.1


def test_what_is_held_stays_as_it_is():
    generator = torch.Generator().manual_seed(0)
    machine = drawn("generic", generator)
    seen, held = held_at_random(machine, 0.5, generator)
    assert 0.2 < float(seen.mean()) < 0.8
    owner = owners(machine.layers)
    for variable in range(30):
        own = owner == variable
        assert seen[own].unique().numel() == 1
        assert float(held[own].sum()) == float(seen[own][0])
    field = machine.field(2, seen.expand(2, -1), held.expand(2, -1))
    q = field.proximal(scattered(machine.layers, 2, generator), 0.1)
    assert torch.equal(q[:, seen == 1], held[seen == 1].expand(2, -1))


def test_the_mean_field_point_minimises_the_free_energy():
    """F(q) = -q'Φq/2 - b'q + Σ q log q: no other state has less of it."""
    generator = torch.Generator().manual_seed(1)
    machine = drawn("aligned", generator)
    step = stepping(machine.field(1), "proximal", damping(machine))
    (least,) = fixed_point(step, scattered(machine.layers, 1, generator), EXACT).point

    def energy(q):
        entropy = -torch.special.xlogy(q, q).sum(-1)
        return -(q @ machine.phi * q).sum(-1) / 2 - q @ machine.bias - entropy

    others = scattered(machine.layers, 50, generator)
    for nearness in (1.0, 0.1, 1e-3):
        assert (energy(least + nearness * (others - least)) > energy(least)).all()


def test_points_are_counted_once():
    points = torch.tensor([[0.0, 1.0], [0.0, 1.0001], [1.0, 0.0], [0.5, 0.5]])
    assert distinct(points) == 3
