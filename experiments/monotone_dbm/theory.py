"""What is guaranteed, measured on small random machines in double precision."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Literal

import torch
from torch import Tensor
from torch.nn import functional as F

from experiments.monotone_dbm.couplings import Scaling
from experiments.monotone_dbm.instances import Instance, Kind, curvatures, drawn
from experiments.monotone_dbm.layers import flat, owners, scattered, softmax, uniform, variables
from experiments.monotone_dbm.model import Field, implicit, mean_field
from experiments.monotone_dbm.solvers import Settings, fixed_point
from harness.procedures.base import Outcome, Trial
from harness.seeding import derive

Rule = Literal["proximal", "parallel", "damped", "softmax"]


def damping(instance: Instance, share: float = 0.9) -> float:
    """``share`` of the largest α for which the iteration provably converges, 2/L; at most 0.95."""
    return min(share * 2 / float(instance.curvatures[-1]), 0.95)


def stepping(field: Field, rule: Rule, alpha: float) -> Callable[[Tensor], Tensor]:
    """One step of a rule; ``softmax`` is the damped step with softmax for the operator."""
    if rule == "proximal":
        return lambda q: field.proximal(q, alpha)
    if rule == "softmax":
        return lambda q: field.clamped(
            softmax((1 - alpha) * q + alpha * field.logits(q), field.layers)
        )
    return lambda q: mean_field(field, q, rule, 1)


def distinct(points: Tensor, distance: float = 1e-3) -> int:
    """How many of (B, N) are further than ``distance`` from all before them."""
    kept: list[Tensor] = []
    for point in points:
        if all(float((point - other).abs().max()) > distance for other in kept):
            kept.append(point)
    return len(kept)


def held_at_random(
    instance: Instance, share: float, generator: torch.Generator
) -> tuple[Tensor, Tensor]:
    """Which entries (N,) are of variables that are held fixed, and their values."""
    owner = owners(instance.layers)
    chosen = torch.rand(int(owner.max()) + 1, generator=generator, dtype=torch.float64) < share
    seen = chosen[owner].double()
    states = scattered(instance.layers, 1, generator)
    parts = [
        F.one_hot(part.argmax(2), part.shape[2]).movedim(-1, 2).double()
        for part in variables(states, instance.layers)
    ]
    return seen, seen * flat(parts)[0]


class Uniqueness:
    """Where inference ends from random states.

    Args:
        kind: see :func:`experiments.monotone_dbm.instances.drawn`.
        machines, starts: how many of each.
        monotone: m.
        rule: ``proximal``, or a control.
        held: share of the variables that are held fixed, others for every machine.
        scaling: of convolutional machines.
    """

    def __init__(
        self,
        kind: Kind,
        machines: int = 20,
        starts: int = 20,
        monotone: float = 0.1,
        rule: Rule = "proximal",
        held: float = 0.0,
        scaling: Scaling = "symmetric",
    ) -> None:
        self.kind, self.machines, self.starts = kind, machines, starts
        self.monotone, self.rule, self.held, self.scaling = monotone, rule, held, scaling

    @classmethod
    def produces(cls, init_args: Mapping[str, Any]) -> set[str]:
        return {"spread", "residual", "fixed_points", "least_curvature", "asymmetry", "coupled"}

    def run(self, trial: Trial) -> Outcome:
        generator = torch.Generator().manual_seed(derive(trial.seed, "machines", self.kind))
        rows = [self._measured(generator) for _ in range(self.machines)]
        return Outcome(
            {
                "spread": max(row["spread"] for row in rows),
                "residual": max(row["residual"] for row in rows),
                "fixed_points": sum(row["fixed_points"] for row in rows) / len(rows),
                "least_curvature": min(row["least_curvature"] for row in rows),
                "asymmetry": sum(row["asymmetry"] for row in rows) / len(rows),
                "coupled": min(row["coupled"] for row in rows),
            }
        )

    def _measured(self, generator: torch.Generator) -> dict[str, float]:
        machine = drawn(self.kind, generator, self.monotone, self.scaling)
        seen, held = held_at_random(machine, self.held, generator)
        size = (self.starts, -1)
        field = machine.field(self.starts, seen.expand(size), held.expand(size))
        start = field.clamped(scattered(machine.layers, self.starts, generator))
        step = stepping(field, self.rule, damping(machine))
        ends = fixed_point(step, start, Settings(1e-11, 4000, 1)).point
        free = seen == 0
        phi = machine.phi[free][:, free]
        return {
            "spread": float((ends.amax(0) - ends.amin(0)).max()),
            "residual": float(field.residual(ends).max()),
            "fixed_points": float(distinct(ends)),
            "least_curvature": float(curvatures(phi)[0]) if len(phi) else 1.0,
            "asymmetry": float((machine.phi - machine.phi.mT).norm() / machine.phi.norm()),
            "coupled": _coupled(machine),
        }


def _coupled(machine: Instance) -> float:
    """Share of the pairs of variables that are coupled."""
    owner = F.one_hot(owners(machine.layers)).double()
    strength = owner.T @ machine.phi.square() @ owner
    pairs = ~torch.eye(len(strength), dtype=torch.bool)
    return float((strength[pairs] > 1e-18).double().mean())


class Convergence:
    """How often, and in how many steps, a rule settles to a relative change of 1e-6.

    Args:
        kind, machines, starts, monotone: see :class:`Uniqueness`.
        rule: of the steps.
        share: of the provable bound on α.
        memory: of Anderson's acceleration; 1 is none.
        steps: at most.
    """

    def __init__(
        self,
        kind: Kind,
        machines: int = 20,
        starts: int = 5,
        monotone: float = 0.1,
        rule: Rule = "proximal",
        share: float = 0.9,
        memory: int = 1,
        steps: int = 2000,
    ) -> None:
        self.kind, self.machines, self.starts, self.monotone = kind, machines, starts, monotone
        self.rule, self.share = rule, share
        self.settings = Settings(1e-6, steps, memory, ridge=1e-10)

    @classmethod
    def produces(cls, init_args: Mapping[str, Any]) -> set[str]:
        return {"settled", "steps", "steps_worst"}

    def run(self, trial: Trial) -> Outcome:
        generator = torch.Generator().manual_seed(derive(trial.seed, "machines", self.kind))
        found = []
        for _ in range(self.machines):
            machine = drawn(self.kind, generator, self.monotone)
            field = machine.field(1)
            step = stepping(field, self.rule, damping(machine, self.share))
            for start in scattered(machine.layers, self.starts, generator):
                found.append(fixed_point(step, start[None], self.settings))
        steps = [float(each.steps) for each in found]
        return Outcome(
            {
                "settled": sum(each.converged for each in found) / len(found),
                "steps": sum(steps) / len(steps),
                "steps_worst": max(steps),
            }
        )


class Gradients:
    """The gradient of ``c'q`` by b, q being the mean-field point, by ``method``.

    It is compared with ``S (I - Φ S)⁻¹ c``, S being the Jacobian of softmax, solved as a dense
    linear system.

    Args:
        kind, machines, monotone: see :class:`Uniqueness`.
        method: ``adjoint`` as in training, or through the ``last`` step alone.
    """

    def __init__(
        self,
        kind: Kind,
        machines: int = 20,
        monotone: float = 0.1,
        method: Literal["adjoint", "last"] = "adjoint",
    ) -> None:
        self.kind, self.machines, self.monotone, self.method = kind, machines, monotone, method

    @classmethod
    def produces(cls, init_args: Mapping[str, Any]) -> set[str]:
        return {"gradient_error"}

    def run(self, trial: Trial) -> Outcome:
        generator = torch.Generator().manual_seed(derive(trial.seed, "machines", self.kind))
        errors = [self._error(generator) for _ in range(self.machines)]
        return Outcome({"gradient_error": max(errors)})

    def _error(self, generator: torch.Generator) -> float:
        machine = drawn(self.kind, generator, self.monotone)
        bias = machine.bias.requires_grad_()
        field = machine.field(1)
        alpha, settings = damping(machine), Settings(1e-12, 5000, 1)
        with torch.no_grad():
            start = uniform(machine.layers, bias)[None]
            point = fixed_point(stepping(field, "proximal", alpha), start, settings).point
        c = torch.randn(len(bias), generator=generator, dtype=torch.float64)
        if self.method == "adjoint":
            q = implicit(field, point, alpha, settings)
        else:
            q = field.proximal(point, alpha)
        (found,) = torch.autograd.grad((q @ c).sum(), bias)
        expected = self._solved(machine, point[0], c)
        return float((found - expected).norm() / expected.norm())

    @staticmethod
    def _solved(machine: Instance, q: Tensor, c: Tensor) -> Tensor:
        owner = owners(machine.layers)
        same = (owner[:, None] == owner).double()
        slope = torch.diag(q) - same * torch.outer(q, q)
        unit = torch.eye(len(q)).to(q)
        found: Tensor = slope @ torch.linalg.solve(unit - machine.phi.mT @ slope, c)
        return found
