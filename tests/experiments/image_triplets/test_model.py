"""Networks: parameters counted by hand, the block step by step, layers and their names."""

from itertools import pairwise

import pytest
import torch
import torch.nn.functional as F

from experiments.image_triplets.model import CORnetS, LayeredVGG, RecurrentBlock, activations
from harness.procedures.cost import parameters

SMALL = {"classes": 5, "widths": (4, 6, 8, 10), "scale": 2, "kernel": 3, "pool": False}


def block_weights(inputs, outputs, times, scale=4):
    inner = scale * outputs
    kernels = inputs * outputs + outputs**2 + 2 * outputs * inner + 9 * inner**2
    return kernels + 2 * outputs + times * 2 * (2 * inner + outputs)


def test_cornet_has_the_released_networks_parameters(monkeypatch):
    monkeypatch.setattr(torch.nn.init, "kaiming_normal_", lambda *_, **__: None)  # takes seconds
    v1 = 3 * 64 * 49 + 64 * 64 * 9 + 4 * 64
    areas = [(64, 128, 2), (128, 256, 4), (256, 512, 2)]
    by_hand = v1 + sum(block_weights(*area) for area in areas) + 512 * 1000 + 1000
    assert parameters(CORnetS) == by_hand == 53_416_616


def test_vgg_has_vgg16s_parameters_and_layers():
    widths = [3, 64, 64, 128, 128, *[256] * 3, *[512] * 6]
    kernels = sum(9 * a * b + 3 * b for a, b in pairwise(widths))
    dense = 25088 * 4096 + 4096 + 4096 * 4096 + 4096 + 4096 * 1000 + 1000
    with torch.device("meta"):
        model = LayeredVGG(3, 1000, hidden=[4096, 4096], side=7, dropout=0.5)
    assert parameters(lambda: model) == kernels + dense == 138_365_992
    assert (model.low, model.high) == ("features.23", "features.43")  # Pool3, and the README's
    assert isinstance(model[23], torch.nn.MaxPool2d) and isinstance(model[43], torch.nn.MaxPool2d)


def test_a_block_runs_the_same_weights_with_norms_of_each_step():
    torch.manual_seed(0)
    block = RecurrentBlock(3, 4, times=3, scale=2).double()
    for parameter in block.parameters():
        torch.nn.init.normal_(parameter)
    x = torch.randn(2, 3, 8, 8, dtype=torch.float64)
    state = F.conv2d(x, block.conv_input.weight)
    expected = []
    for step in range(3):
        norms = [
            lambda z, n=n: F.batch_norm(z, None, None, n.weight, n.bias, training=True)
            for n in block.norms[step]
        ]
        if step == 0:
            skip = F.conv2d(state, block.skip.weight, stride=2)
            n = block.norm_skip
            start = F.batch_norm(skip, None, None, n.weight, n.bias, training=True)
        else:
            start = state
        inner = norms[0](F.conv2d(state, block.conv1.weight)).relu()
        stride = 2 if step == 0 else 1
        inner = norms[1](F.conv2d(inner, block.conv2.weight, stride=stride, padding=1)).relu()
        state = (norms[2](F.conv2d(inner, block.conv3.weight)) + start).relu()
        expected.append(state)
    found = block.train()(x)
    assert [tuple(s.shape) for s in found] == [(2, 4, 4, 4)] * 3
    for one, other in zip(found, expected, strict=True):
        assert torch.allclose(one, other)


def test_cornets_layers_are_every_step_of_every_area():
    model = CORnetS(**SMALL).eval()
    x = torch.randn(2, 3, 32, 32)
    layers = model.layers(x)
    steps = ["V2.0", "V2.1", "V4.0", "V4.1", "V4.2", "V4.3", "IT.0", "IT.1"]
    assert list(layers) == ["V1.0", "V1.1", *steps, "decoder"]
    sides = [one.shape[-1] for one in layers.values()][:-1]
    assert sides == [16, 16, 8, 8, 4, 4, 4, 4, 2, 2]
    assert torch.equal(layers["decoder"], model(x))
    assert (model.low, model.high) == ("V2.1", "IT.1")
    assert CORnetS(**(SMALL | {"pool": True})).layers(x)["V2.0"].shape[-1] == 4


def test_vggs_layers_are_those_of_its_forward_pass():
    model = LayeredVGG(3, 5, stages=[[4], [6, 6], [8]], hidden=[7], batch_norm=True).eval()
    x = torch.randn(2, 3, 32, 32)
    layers = model.layers(x)
    assert list(layers) == [
        *("features.2", "features.3", "features.6", "features.9", "features.10"),
        *("features.13", "features.14", "classifier.2", "classifier.3"),
    ]
    assert torch.allclose(layers["classifier.3"], model(x))
    assert torch.equal(layers["features.10"], torch.nn.Sequential(*list(model)[:11])(x))
    assert (model.low, model.high) == ("features.10", "features.14")


@pytest.mark.parametrize(
    "model", [CORnetS(**SMALL), LayeredVGG(3, 5, stages=[[4], [6]], hidden=[7])]
)
def test_activations_are_flat_whole_and_do_not_depend_on_the_company(model):
    model.eval()
    images = torch.randn(7, 3, 32, 32)
    found = activations(model, images, batch=3)
    assert all(a.shape[0] == 7 and a.ndim == 2 for a in found.values())
    assert torch.allclose(
        found[model.low][5], model.layers(images[5:6])[model.low].flatten(), atol=1e-5
    )
