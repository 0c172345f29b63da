"""Streaming against inference on longer windows, and against layers stitched one by one."""

import itertools

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from experiments.streaminnc.streaming import (
    NotStreamable,
    Streaming,
    multiplications,
    needed_history,
    stages,
    total_stride,
)


@st.composite
def blocks(draw, causal: bool) -> list[nn.Module]:
    """A convolution with what may come around it; ``causal`` or padded on any side."""
    kernel, dilation = draw(st.integers(1, 5)), draw(st.integers(1, 3))
    stride = draw(st.sampled_from([1, 1, 2]))
    span = (kernel - 1) * dilation
    left = span if causal else draw(st.integers(0, span))
    right = max(0, span + 1 - stride - left) if causal else span - left
    layers: list[nn.Module] = [
        nn.ZeroPad1d((left, right)),
        nn.LazyConv1d(4, kernel, stride, dilation=dilation, bias=draw(st.booleans())),
    ]
    if draw(st.booleans()):
        norm = nn.BatchNorm1d(4)
        norm.running_mean, norm.running_var = torch.randn(4), 0.5 + torch.rand(4)
        layers.append(norm)
    layers.append(draw(st.sampled_from([nn.ReLU(), nn.Tanh(), nn.Identity()])))
    pool = draw(st.sampled_from([None, nn.MaxPool1d, nn.AvgPool1d]))
    if pool is not None:
        layers.append(pool(draw(st.sampled_from([2, 3]))))
    return layers + [nn.Dropout(0.5)] * draw(st.booleans())


@st.composite
def stacks(draw, causal: bool) -> nn.Sequential:
    torch.manual_seed(draw(st.integers(0, 2**31)))
    depth = draw(st.integers(1, 3))
    layers = [layer for _ in range(depth) for layer in draw(blocks(causal))]
    stack = nn.Sequential(nn.Sequential(*layers[:2]), *layers[2:]).double()
    stack(torch.zeros(1, 2, 512, dtype=torch.float64))  # lazy layers learn their input here
    return stack.eval()


def noise(length: int) -> torch.Tensor:
    return torch.randn(2, length, dtype=torch.float64)


@given(stacks(causal=True), st.integers(1, 3), st.integers(0, 3), st.data())
@settings(max_examples=30, deadline=None)
def test_signal_padded_inference_is_what_streaming_computes(stack, ratio, more, data):
    """For any causal stack and aligned step, once the first windows' history is complete."""
    parts = stages(stack)
    stride = total_stride(parts)
    step = stride * data.draw(st.integers(1, 3), label="columns a step")
    window = step * ratio + stride * more
    history = -(-needed_history(parts) // stride) * stride
    lead = -(-history // step)
    x = noise(window + step * (lead + 4))
    streamed = Streaming(stack, window, step).run(x)
    for index in range(lead, lead + 5):
        start = index * step
        full = stack(x[None, :, start - history : start + window])[..., -window // stride :]
        torch.testing.assert_close(streamed[index], full[0], rtol=1e-9, atol=1e-9)


def stitched(stack, x, window, step, memory=True, layers=None):
    """Every layer on the whole stitched map, of which only the newest columns are new."""
    parts = stages(stack)
    embeddings, kept = [], [None] * len(parts)
    for start in range(0, x.shape[-1] - window + 1, step):
        y, new = x[None, :, start : start + window], step
        for index, stage in enumerate(parts):
            streamed = layers is None or index < layers
            seen = y
            if streamed and start and not memory:
                seen = torch.cat([torch.zeros_like(y[..., :-new]), y[..., -new:]], -1)
            whole = stage.full(seen)
            new //= stage.stride
            if streamed and start:
                whole = torch.cat([kept[index][..., new:], whole[..., -new:]], -1)
            y = kept[index] = whole
        embeddings.append(y)
    return torch.cat(embeddings)


@pytest.mark.parametrize("memory", [True, False])
@given(stacks(causal=False), st.data())
@settings(max_examples=30, deadline=None)
def test_new_columns_alone_give_what_whole_layers_stitched_together_give(memory, stack, data):
    """Any padding, any step (misaligned ones too), buffers or zeros, some or all stages."""
    parts = stages(stack)
    stride = total_stride(parts)
    step = data.draw(st.integers(stride, 3 * stride), label="step")
    # long enough for every layer's past columns to lie within the window
    window = stride * (4 + max(p.reach for p in parts))
    layers = data.draw(st.sampled_from([None, *range(len(parts) + 1)]), label="streamed stages")
    x = noise(window + 4 * step)
    streaming = Streaming(stack, window, step, memory, layers)
    expected = stitched(stack, x, window, step, memory, layers)
    torch.testing.assert_close(streaming.run(x), expected, rtol=1e-9, atol=1e-9)


def test_the_first_window_is_inferred_in_full():
    stack = nn.Sequential(nn.Conv1d(2, 3, 3, padding=1), nn.ReLU(), nn.MaxPool1d(2)).eval()
    x = torch.randn(5, 2, 16)
    torch.testing.assert_close(Streaming(stack, 16, 4).start(x), stack(x))


def test_zero_padding_is_inexact_near_the_window_s_begin_only():
    stack = nn.Sequential(nn.ZeroPad1d((4, 0)), nn.Conv1d(1, 1, 5)).double().eval()
    x = torch.randn(1, 48, dtype=torch.float64)
    streamed = Streaming(stack, 16, 8).run(x)[2, 0]
    full = stack(x[None, :, 16:32])[0, 0]
    torch.testing.assert_close(streamed[4:], full[4:])
    assert (streamed[:4] - full[:4]).abs().min() > 1e-6


def test_a_misaligned_step_falls_behind_by_the_samples_it_rounds_away():
    """By hand: pooling by 4 and a step of 6 keeps one new column, of the newest 4 samples."""
    stack = nn.Sequential(nn.MaxPool1d(4)).eval()
    x = torch.arange(1.0, 21.0)[None]
    streaming = Streaming(stack, 8, 6)
    assert not streaming.aligned and Streaming(stack, 8, 4).aligned
    assert streaming.run(x)[:, 0].tolist() == [[4, 8], [8, 14], [14, 20]]


def test_multiplications_are_those_that_torch_counts():
    stack = nn.Sequential(
        nn.Conv1d(4, 8, 3, padding=1), nn.AvgPool1d(2), nn.Conv1d(8, 6, 5, padding="same", groups=2)
    ).eval()
    with FlopCounterMode(display=False) as counter:
        stack(torch.zeros(1, 4, 64))
    assert 2 * multiplications(stages(stack), 64) == counter.get_total_flops()


def test_needed_history_is_where_the_gradient_ends():
    stack = nn.Sequential(
        nn.ZeroPad1d((6, 0)), nn.Conv1d(1, 2, 4, dilation=2), nn.AvgPool1d(3),
        nn.ZeroPad1d((2, 0)), nn.Conv1d(2, 1, 3),
    ).eval()  # fmt: skip
    x = torch.randn(1, 1, 60, requires_grad=True)
    stack(x)[0, 0, 10].backward()
    assert needed_history(stages(stack)) == 30 - int(x.grad[0, 0].nonzero().min())


@pytest.mark.parametrize(
    ("layers", "message"),
    [
        ([nn.Conv1d(1, 1, 3)], "not 1/1 as long"),
        ([nn.Conv1d(1, 1, 3, padding=2)], "not 1/1 as long"),
        ([nn.Conv1d(1, 1, 3, padding=1, padding_mode="circular")], "other values than zeros"),
        ([nn.MaxPool1d(3, 2, padding=1)], "padded"),
        ([nn.MaxPool1d(2, ceil_mode=True)], "rounds up"),
        ([nn.LSTM(1, 1)], "LSTM"),
        ([nn.Conv1d(1, 1, 1), nn.GroupNorm(1, 1)], "GroupNorm"),
        ([nn.ZeroPad1d((2, 0)), nn.ReLU(), nn.Conv1d(1, 1, 3)], "pointwise"),
        ([nn.Conv1d(1, 1, 1), nn.ZeroPad1d((2, 0))], "after the last"),
    ],
)
def test_what_is_not_shift_invariant_is_refused(layers, message):
    with pytest.raises(NotStreamable, match=message):
        stages(nn.Sequential(*layers))


def test_windows_steps_and_modes_that_cannot_be_streamed_are_refused():
    stack = nn.Sequential(nn.MaxPool1d(4), nn.MaxPool1d(2))
    with pytest.raises(NotStreamable, match="training mode"):
        Streaming(stack, 16, 8)
    stack.eval()
    for window, step in itertools.chain([(12, 8)], ((16, step) for step in (0, -8, 17))):
        with pytest.raises(NotStreamable, match="multiple of 8"):
            Streaming(stack, window, step)
    with pytest.raises(NotStreamable, match="no new column"):
        Streaming(stack, 16, 7)


def test_pieces_of_another_length_are_refused():
    stack = nn.Sequential(nn.MaxPool1d(4)).eval()
    streaming = Streaming(stack, 8, 4)
    with pytest.raises(ValueError, match="after start"):
        streaming.push(torch.zeros(1, 1, 4))
    with pytest.raises(ValueError, match="not 8"):
        streaming.start(torch.zeros(1, 1, 9))
    streaming.start(torch.zeros(1, 1, 8))
    with pytest.raises(ValueError, match="4 samples at a time"):
        streaming.push(torch.zeros(1, 1, 3))
