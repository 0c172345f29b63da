import pytest
import torch
from torch import nn

from baselines.spiking import LIF
from experiments.lmuformer.model import (
    ConvEmbedding,
    LMUFormer,
    PixelLMU,
    PlainLMU,
    Recurrent,
    read_out,
    running_mean,
)
from experiments.lmuformer.spiking import SpikingAttention, SpikingLMUFormer, SpikingLMUMixing


def parameters(model):
    return sum(p.numel() for p in model.parameters())


def conv(inputs, outputs, size, bias=True):
    return inputs * outputs * size + outputs * bias


def test_lmuformer_has_the_parameters_of_its_parts():
    c = 256
    norm = 2 * c
    embedding = conv(128, c, 3, False) + 4 * conv(c, c, 3, False) + 4 * norm
    lmu = (c + 1) + (2 * c + 1) * c + conv(c, c, 1) + norm
    mixer = conv(c, 4 * c, 1) + 8 * c + conv(4 * c, c, 1) + norm
    head = (c + 1) * 35
    assert embedding + lmu + mixer + head == 1_621_796
    assert parameters(LMUFormer(128, 128, 35)) == 1_621_796


def test_spiking_lmuformer_has_the_parameters_of_its_parts():
    c, order = 256, 512
    embedding = conv(128, c, 3, False) + 4 * conv(c, c, 3, False) + 4 * 2 * c
    lmu = 2 * c + (c + 1) + 2 + 2 * order + (order + c + 1) * c + 2 * c
    project = conv(c, c, 1) + 2 * c
    mixer = 2 * c + conv(c, 4 * c, 1) + 8 * c + conv(4 * c, c, 1)
    head = 2 * c + (c + 1) * 35
    assert embedding + lmu + project + mixer + head == 1_689_894
    assert parameters(SpikingLMUFormer(128, 128, 35)) == 1_689_894


def test_the_model_of_the_notebook_has_its_parameters():
    model = PixelLMU(1, 784, 10)
    assert parameters(model) == 166_798
    rates = [m.p for m in model.modules() if isinstance(m, nn.Dropout)]
    assert rates == [0.4]


@pytest.mark.parametrize(
    "model",
    [
        LMUFormer(6, 20, 3, width=8),
        LMUFormer(6, 20, 3, width=8, window=1),
        SpikingLMUFormer(6, 20, 3, width=8),
        SpikingLMUFormer(6, 20, 3, width=8, mixing="attention", heads=2),
        SpikingLMUFormer(6, 20, 3, width=8, window=1),
        PlainLMU(6, 20, 3, hidden=8, order=8),
        PlainLMU(6, 20, 3, hidden=8, order=8, embedding=True),
        PixelLMU(6, 20, 3, hidden=8, order=8),
        PixelLMU(6, 20, 3, hidden=8, order=8, readout="last"),
        Recurrent(6, 3, hidden=8),
    ],
)
def test_sequences_become_logits_and_every_parameter_is_trained(model):
    model.train()(torch.randn(4, 20, 6)).square().sum().backward()
    assert all(p.grad is not None for p in model.parameters())
    logits = model.eval()(torch.randn(4, 20, 6))
    assert logits.shape == (4, 3) and logits.isfinite().all()


def reach(function, frames, at):
    """Frames of the input that the output at ``at`` depends on."""
    x = torch.randn(1, frames, 6, requires_grad=True)
    function(x)[0, at].sum().backward()
    sensitivity = x.grad[0].abs().sum(-1)
    # A Fourier transform leaves rounding errors everywhere.
    return (sensitivity > 1e-5 * sensitivity.max()).nonzero().flatten().tolist()


def test_the_embedding_reaches_five_frames_to_each_side():
    torch.manual_seed(0)
    embedding = ConvEmbedding(6, 8).eval()
    found = reach(lambda x: embedding(x.transpose(1, 2)).transpose(1, 2), 30, at=15)
    assert found == list(range(15 - ConvEmbedding.LOOK_AHEAD, 15 + ConvEmbedding.LOOK_AHEAD + 1))


def test_the_lmu_alone_reaches_back_to_the_begin():
    torch.manual_seed(0)
    model = LMUFormer(6, 30, 3, width=8).eval()
    open_gates(model)
    assert reach(model.features, 30, at=20) == list(range(26))


def test_a_window_of_one_frame_is_no_memory():
    torch.manual_seed(0)
    model, whole = (LMUFormer(6, 30, 3, width=8, window=window).eval() for window in (1, None))
    open_gates(model)
    found = reach(model.features, 30, at=20)
    assert set(range(15, 26)) <= set(found) and min(found) >= 12
    assert parameters(model) == parameters(whole)


def open_gates(model):
    """Positive weights into the LMU's ReLUs, so that they pass something."""
    for module in (model.frames.lmu.write, model.frames.lmu.read):
        nn.init.uniform_(module.weight, 0, 1)


def test_in_a_fifth_of_networks_the_memory_of_single_pixels_is_shut():
    """One ReLU writes it: with one pixel as its input it may be 0 whatever comes."""
    generator = torch.Generator().manual_seed(0)
    bright = torch.rand(64, 196, 1, generator=generator) > 0.8
    pixels = bright * torch.rand(64, 196, 1, generator=generator)
    shut = 0
    for seed in range(200):
        torch.manual_seed(seed)
        model = PixelLMU(1, 196, 10, hidden=4, order=4)
        with torch.no_grad():
            embedded = model.embedding(pixels.transpose(1, 2)).transpose(1, 2)
            shut += not torch.relu(model.lmu.write(embedded)).any()
    assert 25 <= shut <= 50


def test_the_head_sees_the_mean_over_frames():
    torch.manual_seed(0)
    for model in (LMUFormer(6, 20, 3, width=8).eval(), SpikingLMUFormer(6, 20, 3, width=8).eval()):
        x = torch.randn(2, 20, 6)
        last = model.head(running_mean(model.features(x)))[:, -1]
        torch.testing.assert_close(model(x), last, rtol=1e-4, atol=1e-5)


def test_the_running_mean_starts_with_the_first_frame():
    x = torch.tensor([[[1.0], [3.0], [8.0]]])
    assert running_mean(x).flatten().tolist() == [1.0, 2.0, 4.0]


def test_states_are_read_out_at_the_end_or_on_average():
    states = torch.tensor([[[1.0], [3.0], [8.0]]])
    assert read_out(states, "last").tolist() == [[8.0]]
    assert read_out(states, "mean").tolist() == [[4.0]]


def test_every_weight_of_the_spiking_network_meets_spikes_or_the_input():
    torch.manual_seed(0)
    model = SpikingLMUFormer(6, 20, 3, width=8).eval()
    seen = {}

    def look(name):
        return lambda module, inputs: seen.__setitem__(name, inputs[0].unique().tolist())

    first = model.embedding.layers[0]
    for name, module in model.named_modules():
        if isinstance(module, (nn.Conv1d, nn.Linear)) and module is not first:
            module.register_forward_pre_hook(look(name))
    model(5 * torch.randn(4, 20, 6))
    assert len(seen) == 10
    assert all(set(values) <= {0.0, 1.0} for values in seen.values()), seen
    assert any(1.0 in values for values in seen.values())


def test_the_spiking_memory_is_causal_and_attention_is_not():
    torch.manual_seed(0)
    x = 3 * torch.randn(1, 8, 20)
    changed = x.clone()
    changed[..., 12:] = -changed[..., 12:]
    mixing = SpikingLMUMixing(8, 20, window=20).eval()
    torch.testing.assert_close(mixing(x)[..., :12], mixing(changed)[..., :12])
    attention = SpikingAttention(8, heads=2).eval()
    for part in (attention.query, attention.key, attention.value):
        nn.init.uniform_(part[0].weight, 0, 2)
    seen = []
    attention.attended.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0]))
    attention(x), attention(changed)
    assert not torch.allclose(seen[0][:12], seen[1][:12])


def test_attention_is_the_scaled_product_of_spikes():
    torch.manual_seed(0)
    attention = SpikingAttention(4, heads=2).eval()
    for part in (attention.query, attention.key, attention.value):
        nn.init.uniform_(part[0].weight, 0, 4)
    x = 4 * torch.randn(1, 4, 6)
    spikes = attention.inputs(x)
    q, k, v = (part(spikes)[0] for part in (attention.query, attention.key, attention.value))
    seen = []
    attention.attended.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0]))
    attention(x)
    for head in (slice(0, 2), slice(2, 4)):
        expected = 0.25 * (q[head].T @ k[head]) @ v[head].T  # (frames, channels)
        torch.testing.assert_close(seen[0][:, 0, head], expected)
    assert seen[0].max() > 0


def test_neurons_fire_earlier_before_the_memory_and_after_attention():
    model = SpikingLMUFormer(6, 20, 3, width=8)
    attention = SpikingLMUFormer(6, 20, 3, width=8, mixing="attention", heads=2).frames
    earlier = {model.frames.inputs.neurons, attention.attended}
    for part in (model, attention):
        for neurons in part.modules():
            if isinstance(neurons, LIF):
                assert neurons.threshold == (0.5 if neurons in earlier else 1.0)
                assert (neurons.tau, neurons.sharpness) == (2.0, 4.0)


def test_a_spiking_network_starts_every_sequence_at_rest():
    torch.manual_seed(0)
    model = SpikingLMUFormer(6, 20, 3, width=8).eval()
    x = 3 * torch.randn(2, 20, 6)
    assert torch.equal(model(x), model(x))
