import math

import numpy as np
import pytest
import torch
from torch import nn

from experiments.time2vec_finance.model import (
    EncoderBlock,
    EncoderForecaster,
    RecurrentForecaster,
    Time2Vec,
    sinusoids,
)

DAYS, FEATURES, TIMES = 10, 3, 2


def forecaster(**settings):
    torch.manual_seed(0)
    size = {"width": 16, "layers": 1, "hidden": 32, "dropout": 0.0}
    return EncoderForecaster(FEATURES, DAYS, TIMES, **(size | settings))


def windows(n=5):
    generator = torch.Generator().manual_seed(1)
    return (
        torch.randn(n, DAYS, FEATURES, generator=generator),
        torch.rand(n, DAYS, TIMES, generator=generator),
    )


def test_time2vec_is_its_equation_entry_by_entry():
    layer = Time2Vec(2, k=3).double()
    u = torch.randn(4, 2, dtype=torch.float64)
    w, b = layer.weight.detach().numpy(), layer.bias.detach().numpy()
    expected = [
        [
            w[j, i] * x[j] + b[j, i] if i == 0 else math.sin(w[j, i] * x[j] + b[j, i])
            for j in range(2)
            for i in range(4)
        ]
        for x in u.tolist()
    ]
    np.testing.assert_allclose(layer(u).detach().numpy(), expected, atol=1e-12)


def test_time2vec_repeats_after_a_period_but_for_its_linear_entry():
    layer = Time2Vec(1, k=4)
    with torch.no_grad():
        layer.weight[:, 1:] = 2 * math.pi * torch.arange(1.0, 5)
    now, later = layer(torch.tensor([[0.3]])), layer(torch.tensor([[1.3]]))
    torch.testing.assert_close(now[:, 1:], later[:, 1:], atol=1e-5, rtol=0)
    torch.testing.assert_close(later[:, 0] - now[:, 0], torch.ones(1))


def test_frequencies_at_first_are_spread_over_the_whole_band():
    cycles = Time2Vec(50, k=8, fastest=8.0).weight.detach()[:, 1:] / (2 * math.pi)
    steps = torch.arange(8.0)
    assert (cycles >= steps - 1e-5).all() and (cycles <= steps + 1 + 1e-5).all()
    assert len(cycles.flatten().unique()) > 390


def test_gradients_of_time_and_weights_are_those_of_finite_differences():
    layer = Time2Vec(2, k=2, fastest=1.0).double()
    u = torch.rand(3, 2, dtype=torch.float64, requires_grad=True)

    def coded(u, weight, bias):
        return torch.func.functional_call(layer, {"weight": weight, "bias": bias}, (u,))

    assert torch.autograd.gradcheck(coded, (u, layer.weight, layer.bias))


def test_frozen_weights_are_not_trained():
    model = forecaster(code="values", frozen=True)
    trained = {name for name, weight in model.named_parameters() if weight.requires_grad}
    assert not any(name.startswith("time2vec") for name in trained)
    free = forecaster(code="values")
    assert all(weight.requires_grad for weight in free.parameters())


def test_sinusoids_are_those_of_the_paper():
    found = sinusoids(7, 6)
    for position in range(7):
        for i in range(3):
            angle = position / 10_000 ** (2 * i / 6)
            assert found[position, 2 * i] == pytest.approx(math.sin(angle), abs=1e-6)
            assert found[position, 2 * i + 1] == pytest.approx(math.cos(angle), abs=1e-6)


def test_a_block_is_torchs_encoder_layer():
    block = EncoderBlock(16, 4, 32, dropout=0.3).double().eval()
    theirs = nn.TransformerEncoderLayer(16, 4, 32, 0.3, batch_first=True).double().eval()
    with torch.no_grad():
        attention = theirs.self_attn
        attention.in_proj_weight.copy_(block.project.weight)
        attention.in_proj_bias.copy_(block.project.bias)
        pairs = [
            (attention.out_proj, block.mix),
            (theirs.linear1, block.feed_forward[0]),
            (theirs.linear2, block.feed_forward[2]),
            (theirs.norm1, block.norms[0]),
            (theirs.norm2, block.norms[1]),
        ]
        for target, source in pairs:
            target.load_state_dict(source.state_dict())
    z = torch.randn(2, 5, 16, dtype=torch.float64)
    torch.testing.assert_close(block(z), theirs(z))


def test_dropout_is_off_in_evaluation():
    model = forecaster(dropout=0.5)
    x, t = windows()
    assert not torch.equal(model(x, t), model(x, t))
    model.eval()
    assert torch.equal(model(x, t), model(x, t))


@pytest.mark.parametrize("code", ["time2vec", "values", "positional", "none"])
def test_what_each_code_knows_of_the_order_of_days(code):
    model = forecaster(code=code).eval()
    x, t = windows()
    order = torch.randperm(DAYS, generator=torch.Generator().manual_seed(2))
    together = torch.allclose(model(x, t), model(x[:, order], t[:, order]), atol=1e-5)
    assert together == (code != "positional")  # sets of days with their times
    values = torch.allclose(model(x, t), model(x[:, order], t), atol=1e-5)
    assert values == (code in ("values", "none"))  # days at other times
    times = torch.allclose(model(x, t), model(x, t[:, order]), atol=1e-5)
    assert times == (code != "time2vec")


def test_parameters_by_hand():
    def encoder(inputs):
        embed = (inputs + 1) * 16
        block = (16 + 1) * 48 + (16 + 1) * 16 + (16 + 1) * 32 + (32 + 1) * 16 + 4 * 16
        head = (16 + 1) * 16 + (16 + 1)
        return embed + block + head

    def count(model):
        return sum(p.numel() for p in model.parameters())

    assert count(forecaster(code="none")) == encoder(3)
    assert count(forecaster(code="positional")) == encoder(3)
    assert count(forecaster(code="time2vec")) == encoder(3 + 2 * 9) + 2 * 2 * 9
    assert count(forecaster(code="values")) == encoder(3 + 3 * 9) + 2 * 3 * 9


@pytest.mark.parametrize("cell", ["tanh", "lstm"])
def test_recurrent_networks_have_as_many_units_as_their_parameters_allow(cell):
    gates = 4 if cell == "lstm" else 1
    for parameters in (200, 3000):
        model = RecurrentForecaster(FEATURES, cell, parameters)
        n = model.head.in_features

        def size(n):
            return gates * n * (FEATURES + n + 2) + n + 1

        assert sum(p.numel() for p in model.parameters()) == size(n) <= parameters < size(n + 1)


@pytest.mark.parametrize("cell", ["tanh", "lstm"])
def test_recurrent_forecasts_depend_on_all_days_up_to_the_last(cell):
    model = RecurrentForecaster(FEATURES, cell, 1000)
    x, t = windows()
    x.requires_grad_()
    forecast = model(x, t)
    assert forecast.shape == (5,)
    (gradient,) = torch.autograd.grad(forecast.sum(), x)
    assert (gradient.abs().amax(dim=2) > 0).all()
