"""Encodings, initialisation and the primary network, against hand counts and plain torch."""

import math

import pytest
import torch
from torch import nn
from torch.func import stack_module_state, vmap

from experiments.mip_hypernets.model import ConvNet, HyperConvNet, HyperNet, encoded, ordinary_std

SHAPES = {"a.weight": (40, 30), "a.bias": (40,), "b.weight": (8, 40, 3, 3)}
MIP = {"encoding": "cos-sin", "residual": True}


def net(seed=0, **options):
    torch.manual_seed(seed)
    return HyperNet(SHAPES, **options)


def test_the_encoding_is_a_quarter_turn_per_input():
    found = encoded(torch.tensor([0.0, 0.5, 1.0]), "cos-sin")
    half = math.sqrt(0.5)
    torch.testing.assert_close(found, torch.tensor([1, half, 0, 0, half, 1]), atol=1e-6, rtol=0)
    gamma = torch.rand(50, 3)
    norms = encoded(gamma, "cos-sin").norm(dim=1)
    torch.testing.assert_close(norms, torch.full((50,), math.sqrt(3)))
    assert encoded(torch.tensor([0.2]), "z-1-z").tolist() == pytest.approx([0.2, 0.8])
    assert encoded(torch.tensor([0.2]), "centred").tolist() == pytest.approx([-0.3])


def test_states_are_those_of_a_sequence_of_torch_layers():
    model = net(hidden=[5, 7], activation="relu", uniform_biases=True)
    first, second = (layer[0] for layer in model.layers)
    plain = nn.Sequential(first, nn.ReLU(), second, nn.ReLU(), model.output)
    gamma = torch.rand(6, 1)
    torch.testing.assert_close(model.flat(gamma), plain(gamma))
    theta = model(gamma[2])
    assert {name: tuple(t.shape) for name, t in theta.items()} == SHAPES
    flat = torch.cat([t.flatten() for t in theta.values()])
    torch.testing.assert_close(flat, plain(gamma[2]))


def test_rows_of_each_predicted_tensor_start_by_its_own_fan_out():
    model = net(hidden=[512])
    sizes = [1200, 40, 2880]
    for rows, size in zip(model.output.weight.detach().split(sizes), sizes, strict=True):
        assert float(rows.std()) == pytest.approx(math.sqrt(2 / size), rel=0.03)
    assert all(not p.any() for n, p in model.named_parameters() if "bias" in n)


def test_the_residual_is_an_ordinary_network_and_the_default_can_be_one():
    """Both have θ_0, as the bias of the output: only where it starts is another."""
    default, residual = net(), net(residual=True)
    count = lambda m: sum(p.numel() for p in m.parameters())  # noqa: E731
    assert count(default) == count(residual)
    weight, bias, kernel = residual.output.bias.detach().split([1200, 40, 2880])
    assert float(weight.std()) == pytest.approx(math.sqrt(2 / 30), rel=0.1)
    assert float(kernel.std()) == pytest.approx(math.sqrt(2 / 360), rel=0.1)
    assert not bias.any() and not default.output.bias.any()
    reference = nn.init.kaiming_normal_(torch.empty(300, 300), nonlinearity="leaky_relu")
    assert ordinary_std((300, 300)) == pytest.approx(float(reference.std()), rel=0.02)


def test_scaled_output_has_the_variance_of_an_ordinary_network_at_gamma_one():
    thetas = torch.stack([net(seed, scaled=True).flat(torch.ones(1)) for seed in range(20)])
    weight, bias, kernel = thetas.detach().split([1200, 40, 2880], dim=1)
    assert float(weight.std()) == pytest.approx(math.sqrt(2 / 30), rel=0.1)
    assert float(kernel.std()) == pytest.approx(math.sqrt(2 / 360), rel=0.1)
    assert float(bias.abs().max()) == 0
    default = torch.stack([net(seed).flat(torch.ones(1)) for seed in range(20)]).detach()
    assert float(default[:, :1200].std()) == pytest.approx(math.sqrt(2 / 1200), rel=0.1)


def test_the_primary_network_computes_with_what_is_predicted():
    """The same logits as a ConvNet that holds the predicted tensors, and no others."""
    torch.manual_seed(0)
    model, plain = HyperConvNet(**MIP), ConvNet()
    x, gamma = torch.randn(3, 1, 14, 14), torch.full((3, 1), 0.3)
    theta = model.hypernet(gamma[0]) | {
        f"head.{name}": p for name, p in model.primary.head.named_parameters()
    }
    plain.load_state_dict(theta)
    torch.testing.assert_close(model(x, gamma), plain(x))
    assert not torch.allclose(model(x, gamma), model(x, gamma + 0.5))


@pytest.mark.parametrize("options", [{}, MIP])
def test_counts_of_parameters(options):
    """θ: 1·8·25+8 + 3 (8·8·9+8) = 1,960; head 90."""
    model = HyperConvNet(**options)
    learned = {name: p.numel() for name, p in model.named_parameters()}
    hidden = (2 * 16 if options else 16) + 16 + 16 * 64 + 64 + 64 * 128 + 128
    assert sum(learned.values()) == hidden + 129 * 1960 + 90
    assert [name for name in learned if "primary" in name] == [
        "primary.head.weight",
        "primary.head.bias",
    ]
    assert sum(p.numel() for p in HyperConvNet(hypernet=False).parameters()) == 1960 + 90


def test_without_a_hypernetwork_gamma_is_not_used_and_theta_starts_as_theta_0_does():
    torch.manual_seed(0)
    model = HyperConvNet(hypernet=False)
    x = torch.randn(3, 1, 8, 8)
    torch.testing.assert_close(model(x, torch.zeros(3, 1)), model(x, torch.ones(3, 1)))
    assert float(model.primary.conv4.weight.detach().std()) == pytest.approx(
        math.sqrt(2 / 72), rel=0.1
    )
    assert not model.primary.conv4.bias.any()


def test_gradients_reach_every_parameter_and_models_can_be_stacked():
    torch.manual_seed(0)
    models = [HyperConvNet(channels=(2, 2, 2, 2), **MIP) for _ in range(2)]
    x, gamma = torch.randn(2, 4, 1, 8, 8), torch.rand(2, 1, 1).expand(2, 4, 1)
    params, buffers = stack_module_state(models)
    call = lambda p, b, x, g: torch.func.functional_call(models[0], (p, b), (x, g))  # noqa: E731
    together = vmap(call)(params, buffers, x, gamma)
    torch.testing.assert_close(together[1], models[1](x[1], gamma[1]), rtol=1e-4, atol=1e-5)
    together.square().sum().backward()
    assert all(p.grad is not None and float(p.grad.abs().max()) > 0 for p in params.values())
