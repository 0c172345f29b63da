"""Patterns, and sampling against enumeration of all states and explicit couplings."""

import pytest
import torch
from torch import Tensor

from experiments.multitasking_hopfield.network import HebbianNetwork, cooling, overlaps
from experiments.multitasking_hopfield.patterns import (
    diluted,
    examples,
    hierarchical_start,
    patterns,
    relabelled,
    signs,
)


@pytest.fixture
def generator() -> torch.Generator:
    return torch.Generator().manual_seed(0)


def all_states(neurons: int) -> Tensor:
    bits = torch.arange(2**neurons)[:, None] >> torch.arange(neurons) & 1
    return bits.float() * 2 - 1


def test_kinds_of_patterns(generator: torch.Generator) -> None:
    shape = (2, 3, 20_000)
    mild = patterns("diluted", shape, 0.3, generator)
    assert (mild == 0).double().mean().item() == pytest.approx(0.3, abs=0.01)
    assert abs(mild.mean().item()) < 0.01
    assert (patterns("filled", shape, 0.3, generator).abs() == 1).all()
    assert (patterns("disjoint", shape, 0.3, generator).abs().sum(1) == 1).all()
    with pytest.raises(ValueError, match="dense"):
        patterns("dense", shape, 0.3, generator)  # type: ignore[arg-type]


def test_examples_are_faithful_as_often_as_their_quality_says(generator: torch.Generator) -> None:
    drawn = diluted((2, 3, 5000), 0.4, generator)
    copies = examples(drawn, 4, 0.3, generator)
    assert ((copies == 0) == (drawn == 0)[:, :, None]).all()
    agreement = (copies * drawn[:, :, None]).sum() / copies.abs().sum()
    assert agreement.item() == pytest.approx(0.3, abs=0.01)
    assert not torch.equal(copies[:, :, 0], copies[:, :, 1])


def test_the_hierarchical_state_has_amplitudes_in_powers_of_d(generator: torch.Generator) -> None:
    drawn = diluted((4, 3, 50_000), 0.4, generator)
    m = overlaps(drawn, hierarchical_start(drawn, generator)).mean(0)
    assert m.tolist() == pytest.approx([0.6, 0.24, 0.096], abs=0.006)


@pytest.mark.parametrize("protocol", ["storing", "supervised", "unsupervised"])
def test_sampling_has_the_boltzmann_distribution(protocol: str, generator: torch.Generator) -> None:
    """On 6 neurons, against the weights of all 64 states."""
    drawn = diluted((1, 2, 6), 0.3, generator)
    network = HebbianNetwork(drawn)
    if protocol != "storing":
        copies = examples(drawn, 3, 0.6, generator)
        network = getattr(HebbianNetwork, protocol)(copies, 0.6)
    chains, noise = 20_000, 0.4
    every = all_states(6)
    energies = HebbianNetwork(network.vectors.expand(64, -1, -1), network.strength).energy(every)
    exact = torch.softmax(-6 * energies.double() / noise, 0)
    many = HebbianNetwork(network.vectors.expand(chains, -1, -1), network.strength)
    state = signs((chains, 6), generator)
    for _ in range(40):
        state = many.update(state, noise, generator)
    index = ((state > 0) * 2 ** torch.arange(6)).sum(1)
    found = torch.bincount(index, minlength=64).double() / chains
    assert 0.5 * (found - exact).abs().sum().item() < 0.03
    assert 0.5 * (torch.softmax(-3 * energies.double() / noise, 0) - exact).abs().sum() > 0.06


def test_energy_and_alignment_are_those_of_explicit_couplings(generator: torch.Generator) -> None:
    copies = examples(diluted((3, 2, 20), 0.3, generator), 5, 0.5, generator)
    network = HebbianNetwork.unsupervised(copies, 0.5)
    state = signs((3, 20), generator)
    couplings = torch.einsum("rkai,rkaj->rij", copies, copies) / (20 * (0.25 * 5 + 0.75))
    energy = -0.5 * torch.einsum("ri,rij,rj->r", state, couplings, state) / 20
    assert torch.allclose(network.energy(state), energy, atol=1e-6)
    others = couplings * (1 - torch.eye(20))
    alignment = state * torch.einsum("rij,rj->ri", others, state)
    assert torch.allclose(network.alignment(state), alignment, atol=1e-5)


def test_only_a_teacher_can_be_misled_by_labels(generator: torch.Generator) -> None:
    copies = examples(diluted((2, 3, 50), 0.3, generator), 6, 0.4, generator)
    dealt, state = relabelled(copies, generator), signs((2, 50), generator)
    assert dealt.shape == copies.shape and not torch.equal(dealt, copies)
    energies = [HebbianNetwork.unsupervised(c, 0.4).energy(state) for c in (copies, dealt)]
    assert torch.allclose(*energies, atol=1e-6)
    taught = [HebbianNetwork.supervised(c, 0.4).energy(state) for c in (copies, dealt)]
    assert not torch.allclose(*taught, atol=1e-3)


def test_perfect_examples_are_stored_patterns(generator: torch.Generator) -> None:
    drawn = diluted((2, 3, 50), 0.3, generator)
    copies, state = examples(drawn, 4, 1.0, generator), signs((2, 50), generator)
    stored = HebbianNetwork(drawn).energy(state)
    assert torch.allclose(HebbianNetwork.supervised(copies, 1.0).energy(state), stored, atol=1e-6)
    assert torch.allclose(HebbianNetwork.unsupervised(copies, 1.0).energy(state), stored, atol=1e-6)


def test_cooling_ends_where_it_should() -> None:
    schedule = cooling(1.6, 0.2, 5)
    assert schedule == pytest.approx([1.6, 0.8, 0.4, 0.2, 0.2])
