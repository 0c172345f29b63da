import pytest
import torch
from torch import nn

from baselines.vision import MLP, ResNet
from experiments.guidance.alignment import pairs, recorded
from experiments.guidance.model import (
    PAD,
    CopyRNN,
    CopyTransformer,
    DeepFCN,
    ParityRNN,
    ParityTransformer,
    positions,
)


def size(make):
    with torch.device("meta"):
        return sum(p.numel() for p in make().parameters())


def test_sizes_of_the_released_image_networks():
    """Counted by hand from mlp.py and resnet_arch.py: weights, biases, batch normalisations."""
    features = 3 * 224**2
    deep = (features + 3) * 2048 + (2048 + 3) * 1024 + 46 * (1024 + 3) * 1024 + 1025 * 1000
    assert size(lambda: DeepFCN(features, 1000)) == deep
    wide = (features + 3) * 8192 + 2 * (8192 + 3) * 8192 + 8193 * 1000
    assert size(lambda: MLP(features, [8192] * 3, 1000, batch_norm=True)) == wide


def test_the_deep_fcn_has_49_linear_layers_and_resnets_the_released_hooks():
    linear = [m for m in DeepFCN(8, 10, first=4, width=4).modules() if type(m) is nn.Linear]
    assert len(linear) == 49
    x = torch.randn(2, 3, 32, 32)
    for blocks, bottleneck, residual, layers in [
        ((2, 2, 2, 2), False, True, 21),  # 17 convolutions, 3 shortcuts, the pool
        ((3, 4, 6, 3), True, True, 54),
        ((3, 4, 6, 3), True, False, 50),
    ]:
        model = ResNet(3, 10, 2, blocks, bottleneck, residual).eval()
        assert len(recorded(model, x)[1]) == layers
    assert len(pairs(54, 50)) == 50


def test_positions_are_sines_and_cosines_in_turn():
    found = positions(7, 6, torch.device("cpu"))
    assert found.shape == (7, 6)
    assert float(found[5, 0]) == pytest.approx(torch.sin(torch.tensor(5.0)).item())
    expected = torch.cos(torch.tensor(5 / 10000 ** (4 / 6)))
    assert float(found[5, 5]) == pytest.approx(float(expected))


def test_the_decoder_layer_is_torchs_and_shared():
    model = CopyTransformer(13, 8, 2, layers=3, hidden=16).eval()
    assert sum(isinstance(m, nn.TransformerDecoderLayer) for m in model.modules()) == 1
    x = torch.randint(0, 13, (4, 9))
    with torch.no_grad():
        output, layers = recorded(model, x)
    assert output.shape == (4, 13, 9)
    assert len(layers) == 3 * 8  # attentions, perceptron, norms, the layer itself; not the scores
    assert all(layer.shape[:2] == (4, 9) for layer in layers)


def test_padding_changes_nothing_about_a_bit_string():
    for model in (ParityRNN(3, 8, 2), ParityTransformer(8, 2, 2, hidden=16)):
        model.eval()
        string = torch.tensor([[1, 0, 1, 1]])
        padded = torch.cat([string, torch.full((1, 5), PAD)], 1)
        torch.testing.assert_close(model(padded), model(string))
        flipped = string.clone()
        flipped[0, 3] = 0
        assert not torch.allclose(model(flipped), model(string), atol=1e-4)


def test_recorded_layers_of_sequence_models_are_those_of_the_released_hooks():
    bits = torch.randint(0, 2, (5, 6))
    _, layers = recorded(ParityRNN(3, 8, 1), bits)
    assert [layer.shape for layer in layers] == [(5, 6, 8)]
    target = ParityTransformer(8, 2, 2, hidden=16)
    assert len(recorded(target.train(), bits)[1]) == 10
    with torch.no_grad():  # torch's fast path would call no hooks
        assert len(recorded(target.eval(), bits)[1]) == 10
    assert len(recorded(CopyRNN(13, 4, 8, 4), bits)[1]) == 4


def test_later_recurrent_layers_start_from_the_last_state_of_the_layer_below():
    x = torch.randint(0, 10, (1, 6))
    changed = x.clone()
    changed[0, -1] = (x[0, -1] + 1) % 10
    for layers, equal in ((1, True), (2, False)):
        model = CopyRNN(13, 4, 8, layers)
        assert torch.allclose(model(x)[..., 0], model(changed)[..., 0]) == equal
