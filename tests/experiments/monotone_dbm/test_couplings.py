import pytest
import torch
from torch import nn

from experiments.monotone_dbm.couplings import MonotoneCouplings, RestrictedCouplings
from experiments.monotone_dbm.layers import (
    Layer,
    by_states,
    flat,
    from_states,
    images,
    matrix_of,
    scattered,
    softmax,
    uniform,
    variable_blocks,
    variables,
)

LAYERS = [Layer(3, 1, 8, 8), Layer(4, 2, 4, 4), Layer(4, 3, 2, 2), Layer(5)]
KERNELS = [[3, 0, 0, 0], [3, 3, 0, 0], [3, 3, 3, 0], [0, 0, 1, 1]]


def monotone(seed=0, gain=4.0, **settings):
    torch.manual_seed(seed)
    made = MonotoneCouplings(LAYERS, KERNELS, **settings).double()
    made.dense = False
    for weight in made.links.parameters():
        weight.data *= gain  # far beyond the bound
    return made


def matrix(couplings):
    with torch.no_grad():
        return matrix_of(couplings.phi(), LAYERS, torch.float64)


@pytest.mark.parametrize("kind", [MonotoneCouplings, RestrictedCouplings])
def test_convolutions_and_the_multiplied_matrix_are_the_same(kind):
    torch.manual_seed(0)
    made = kind(LAYERS, KERNELS).double()
    assert made.dense
    dense = matrix(made)
    made.dense = False
    torch.testing.assert_close(matrix(made), dense)


def smallest(phi):
    return float(torch.linalg.eigvalsh(torch.eye(len(phi)) - phi)[0])


@pytest.mark.parametrize("m", [0.01, 0.3])
def test_the_machine_is_monotone_whatever_its_weights(m):
    for seed in range(3):
        phi = matrix(monotone(seed, monotone=m))
        torch.testing.assert_close(phi, phi.T)
        assert smallest(phi) >= m - 1e-9


def test_without_scaling_the_machine_is_not_monotone():
    assert smallest(matrix(monotone(scaling="none"))) < 0


def test_no_variable_is_coupled_to_itself_and_layers_are_within_themselves():
    phi = matrix(monotone())
    for block in variable_blocks(phi, LAYERS):
        assert float(block.abs().max()) < 1e-12
    pixels = phi[: LAYERS[0].size, : LAYERS[0].size]
    assert float(pixels.abs().max()) > 0.01


def test_couplings_are_those_of_a_matrix_built_by_hand():
    """Â from the convolutions' own matrix, column by column."""
    made = monotone(monotone=0.2)
    with torch.no_grad():
        x = images(torch.eye(sum(n.size for n in LAYERS), dtype=torch.float64), LAYERS)
        rows = {}
        for high, low, link in made.linked():
            rows[high] = rows.get(high, 0) + link.up(x[low])
        a = torch.cat([row.flatten(1) for row in rows.values()], dim=1).T
    index = variable_indices()
    for own in index:
        a[:, own] *= min(0.8**0.5 / float(torch.linalg.matrix_norm(a[:, own], 2)), 1)
    expected = -a.T @ a
    for own in index:
        expected[own[:, None], own] = 0
    torch.testing.assert_close(matrix(made), expected)


def variable_indices():
    start, found = 0, []
    for layer in LAYERS:
        sites = layer.height * layer.width
        grid = torch.arange(layer.size).view(layer.groups, layer.states, sites) + start
        found += [grid[g, :, s] for g in range(layer.groups) for s in range(sites)]
        start += layer.size
    return found


def test_rows_alone_scaled_as_in_the_released_code_are_not_symmetric():
    made = monotone(scaling="rows")
    phi = matrix(made)
    assert float((phi - phi.T).abs().max()) > 0.01
    with torch.no_grad():
        transposed = matrix_of(made.phi().transposed, LAYERS, torch.float64)
    torch.testing.assert_close(transposed, phi.T)
    root = matrix(monotone()).diagonal() * 0 + made.phi().left.detach().sqrt()
    symmetric = phi * root / root[:, None]  # D^-1/2 (D K) D^1/2
    torch.testing.assert_close(symmetric, matrix(monotone()))


def test_gradients_reach_every_weight_through_the_scales():
    made = monotone()
    q = softmax(torch.randn(2, sum(n.size for n in LAYERS), dtype=torch.float64), LAYERS)

    def energy(weight):
        return torch.func.functional_call(Energy(made), {"inner.links.1-0.weight": weight}, (q,))

    weight = made.links["1-0"].weight.detach().clone().requires_grad_()
    assert torch.autograd.gradcheck(energy, weight, fast_mode=True)
    Energy(made)(q).backward()
    assert all(p.grad.abs().max() > 0 for p in made.links.parameters())


class Energy(nn.Module):
    def __init__(self, inner):
        super().__init__()
        self.inner = inner

    def forward(self, q):
        return (q * self.inner.phi()(q)).sum()


def test_a_restricted_machine_has_no_couplings_within_a_layer():
    torch.manual_seed(0)
    free = RestrictedCouplings(LAYERS, KERNELS).double()
    phi = matrix(free)
    torch.testing.assert_close(phi, phi.T)
    sizes = [n.size for n in LAYERS]
    for index, block in enumerate(phi.split(sizes)):
        own = block.split(sizes, dim=1)[index]
        assert float(own.abs().max()) == 0
        assert float(block.abs().max()) > 0.01


def test_a_bounded_restricted_machine_has_the_norm_that_was_asked_for():
    torch.manual_seed(0)
    made = RestrictedCouplings(LAYERS, KERNELS, bound=0.7).double()
    for weight in made.links.parameters():
        weight.data *= 5
    for _ in range(10):
        made.phi()
    assert float(torch.linalg.matrix_norm(matrix(made.eval()), 2)) == pytest.approx(0.7, rel=0.02)
    before = made.direction.clone()
    made.phi()
    assert torch.equal(before, made.direction)


def test_weights_of_the_official_layout_are_as_many_as_counted_by_hand():
    layers = [Layer(20, 1, 28, 28), Layer(4, 10, 14, 14), Layer(4, 20, 7, 7), Layer(10)]
    made = MonotoneCouplings(layers, KERNELS)
    convolutions = 9 * (20 * 20 + 20 * 40 + 40 * 40 + 20 * 80 + 40 * 80 + 80 * 80)
    label = 80 * 10 * 7 * 7 + 10 * 10
    assert sum(p.numel() for p in made.links.parameters()) == convolutions + label
    assert [p.numel() for p in made.biases] == [15680, 7840, 3920, 10]


def test_links_go_up():
    with pytest.raises(ValueError, match="above the diagonal"):
        MonotoneCouplings(LAYERS[:2], [[0, 3], [0, 0]])


def test_states_are_taken_apart_and_put_together_again():
    q = torch.randn(2, sum(n.size for n in LAYERS))
    assert torch.equal(flat(images(q, LAYERS)), q)
    assert torch.equal(flat(variables(q, LAYERS)), q)
    alike = by_states(q, LAYERS)
    assert [tuple(part.shape[1:]) for part in alike] == [(3, 64), (4, 44), (5, 1)]
    assert torch.equal(from_states(alike, LAYERS), q)
    torch.testing.assert_close(
        from_states([part.softmax(1) for part in alike], LAYERS), softmax(q, LAYERS)
    )
    for state in (uniform(LAYERS, q)[None], scattered(LAYERS, 2, torch.Generator())):
        for part in variables(state, LAYERS):
            torch.testing.assert_close(part.sum(2), torch.ones_like(part.sum(2)))
