import pytest
import torch
import torch.nn.functional as F

from experiments.mgno.model import HelmholtzMgNO, MgNO
from harness.procedures.cost import parameters

NAVIER = ((1, 0), (1, 0), (1, 0), (2, 0), (2, 0))


def network(side=16, **settings):
    torch.manual_seed(0)
    return MgNO(side, **{"channels": 4, "layers": 2, "smoothings": ((1, 0), (2, 0)), **settings})


def by_hand(n, layers, smoothings, bias):
    """Parameters of W_Mg's, the first with one channel in: S, A, Π, R of 9 weights, P of 16."""
    total = 0
    for f in [1] + [n] * (layers - 1):
        pairs = sum(before + after for before, after in smoothings)
        total += (9 * f * n + bias * n) * pairs + (9 * f * n + bias * f) * (pairs - 1)
        total += (len(smoothings) - 1) * (9 * n * n + 9 * f * f + 16 * n * n)
    return total


def test_parameters_of_the_rough_darcy_model():
    w = by_hand(24, 4, [(1, 0)] * 5 + [(2, 0)], bias=0)
    pointwise = (24 + 24) + 3 * (24 * 24 + 24) + 24
    assert parameters(lambda: MgNO(256)) == w + pointwise == 572_661


def test_parameters_of_the_navier_stokes_model():
    def model():
        return MgNO(64, 32, 5, NAVIER, padding="circular", bias=True, norms=True, pointwise=False)

    norms = 5 * 2 * 32 * (64**2 + 32**2 + 16**2 + 8**2)
    assert parameters(model) == by_hand(32, 5, NAVIER, bias=1) + norms + 32 == 2_885_194


def test_parameters_of_the_helmholtz_model_as_released_less_those_it_never_uses():
    unused = (9 * 20 + 1) + 3 * (9 * 20 * 20 + 20) + (9 * 20 + 20)
    assert parameters(HelmholtzMgNO) == 5_351_806 - unused


def test_a_layer_is_gelu_of_cycle_and_pointwise_map():
    model = network()
    x = torch.randn(3, 1, 16, 16)
    u = x
    for cycle, pointwise in zip(model.cycles, model.pointwise, strict=True):
        u = F.gelu(cycle(u) + pointwise(u))
    assert torch.equal(model(x), model.output(u)) and model(x).shape == (3, 1, 16, 16)
    assert model.output.bias is None


def test_a_step_in_time_is_added_to_the_input():
    model = network(step=True, pointwise=False)
    with torch.no_grad():
        model.output.weight.zero_()
    x = torch.randn(2, 1, 16, 16)
    assert torch.equal(model(x), x)


def test_lifting_and_projection_are_there_only_when_asked_for():
    plain, lifted = network(), network(lifting=8)
    lift, project = (8 * 2 + 4 * 8 + 4), (8 * 4 + 8 + 8 + 1)
    wider = 9 * 4 * 3 * (3 + 2) + 9 * 15 + 4 * 3  # four channels into the first layer, not one
    assert lifted.cycles[0].first.in_channels == 4 and plain.cycles[0].first.in_channels == 1
    counts = [parameters(lambda m=m: m) for m in (lifted, plain)]
    assert counts[0] - counts[1] == lift + project - 4 + wider
    assert lifted(torch.randn(2, 1, 16, 16)).shape == (2, 1, 16, 16)


@pytest.mark.parametrize("side", [16, 24, 32])
def test_without_norms_one_set_of_weights_fits_every_grid(side):
    model = network(side)
    model.load_state_dict(network(16).state_dict())
    assert model(torch.randn(1, 1, side, side)).shape[-1] == side


def test_the_helmholtz_model_normalises_each_layer_and_ends_in_a_cycle():
    torch.manual_seed(0)
    model = HelmholtzMgNO(side=23, channels=2, layers=2, smoothings=((1, 0), (1, 0), (2, 0)))
    x = torch.randn(2, 1, 23, 23)
    u = x
    for cycle, norm in zip(model.cycles[:-1], model.norms, strict=True):
        u = F.gelu(F.layer_norm(cycle(u), [2, 23, 23], norm.weight, norm.bias))
    assert torch.equal(model(x), model.cycles[-1](u)) and model(x).shape == x.shape
    assert [level.transfer.project.out_channels for level in model.cycles[0].levels[:2]] == [4, 6]
