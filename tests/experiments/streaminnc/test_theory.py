"""Reach of zero padding against moving averages; pooling errors against calculus."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from experiments.streaminnc.model import AccelerationNet, EEGNet, HeartRateNet
from experiments.streaminnc.streaming import stages
from experiments.streaminnc.theory import (
    PaddingEffect,
    PoolingError,
    padding_effect,
    pooled,
    pooling_bound,
    shifted_pooling_errors,
)
from harness.procedures.base import Trial


def trial(model) -> Trial:
    return Trial(seed=0, data=None, model=model, device=torch.device("cpu"), workdir=None)


def averages(features: nn.Sequential) -> nn.Sequential:
    """The same stack with one channel, moving averages, and nothing pointwise."""
    layers: list[nn.Module] = []
    for layer in features:
        if isinstance(layer, nn.Conv1d):
            kernel = layer.kernel_size[0]
            conv = nn.Conv1d(
                1, 1, kernel, padding=layer.padding[0], dilation=layer.dilation[0], bias=False
            )
            nn.init.constant_(conv.weight, 1 / kernel)
            layers.append(conv)
        elif isinstance(layer, (nn.ZeroPad1d, nn.MaxPool1d, nn.AvgPool1d)):
            layers.append(layer)
    return nn.Sequential(*layers).double()


@pytest.mark.parametrize(
    "net",
    [HeartRateNet(kernel=10, dilation=1), HeartRateNet(), EEGNet(), AccelerationNet()],
    ids=["ppg-10", "ppg-5-2", "eeg", "acc"],
)
def test_the_reach_of_zeros_is_what_moving_averages_on_ones_show(net):
    x = torch.ones(1, 1, net.window, dtype=torch.float64)
    shares = []
    with torch.no_grad():
        for layer in averages(net.features):
            x = layer(x)
            if isinstance(layer, nn.Conv1d):
                shares.append(float((x < 1 - 1e-9).double().mean()))
    assert padding_effect(stages(net.features), net.window) == pytest.approx(shares, abs=1e-12)


def test_published_shares():
    """10.54 % after three convolutions; 53 % at the sixth; 3.12 % and 1.25 % at the last."""
    outcome = PaddingEffect(layers=[3, 6]).run(trial(lambda: HeartRateNet(kernel=10, dilation=1)))
    assert outcome.metrics["effect_conv3"].value == 27 / 256
    assert outcome.metrics["effect_conv6"].value == 34 / 64
    assert outcome.series["effect"].y[-2:] == [1, 1]
    assert PaddingEffect().run(trial(EEGNet)).metrics["effect_last"].value == 2 / 64
    assert PaddingEffect().run(trial(AccelerationNet)).metrics["effect_last"].value == 12 / 960


def test_history_as_long_as_needed_keeps_zeros_out():
    net = HeartRateNet()
    assert padding_effect(stages(net.features), 256, history=320) == [0.0] * 9
    assert padding_effect(stages(net.features), 256, history=256)[-1] > 0


def test_pooling_by_hand():
    x = np.array([3.0, 1.0, 4.0, 1.0, 5.0, 9.0, 2.0])
    assert pooled(x, 3, "max").tolist() == [4, 9]
    assert pooled(x, 3, "average").tolist() == pytest.approx([8 / 3, 5])
    assert pooled(x, 3, "subsample").tolist() == [3, 1]


def test_subsampling_error_of_a_cosine_is_a_chord():
    """|cos(a + b) - cos(a)| is at most 2 sin(b / 2); a runs over all phases at a rate that the
    pooling length does not divide."""
    samples, length = 25 * 160, 7
    x = np.cos(2 * math.pi * np.arange(samples + length) / 250)
    largest, mean = shifted_pooling_errors(x, samples, length, "subsample")
    chord = 2 * math.sin(math.pi * (length - 1) / 250)
    assert largest == pytest.approx(chord, rel=1e-3)
    assert mean == pytest.approx(2 / math.pi * chord, rel=1e-2)
    bound = pooling_bound(length, 1 / 250)
    assert 0.999 * bound < chord < bound  # a slow signal all but reaches it


def test_a_shift_by_the_whole_length_costs_nothing():
    x = np.random.default_rng(0).normal(size=66)
    assert shifted_pooling_errors(x, 64, 1, "max") == (0, 0)
    moved, reference = pooled(x[2:66], 2, "max"), pooled(x[:64], 2, "max")
    assert (moved[:-1] == reference[1:]).all()


@given(
    st.sampled_from(["max", "average", "subsample"]),
    st.integers(2, 12),
    st.lists(st.tuples(st.floats(0.1, 5), st.floats(0, 6.28)), min_size=1, max_size=4),
)
@settings(max_examples=60, deadline=None)
def test_no_band_limited_signal_breaks_the_bound(pool, length, parts):
    """Random sums of cosines up to fmax; sup |x| is at most the number of them."""
    rate = 128
    t = np.arange(8 * rate + length) / rate
    x = sum(np.cos(2 * math.pi * f * t + phase) for f, phase in parts) / len(parts)
    largest, _ = shifted_pooling_errors(x, 8 * rate, length, pool)
    assert largest <= pooling_bound(length, max(f for f, _ in parts) / rate) + 1e-12


def test_pooling_outcomes_and_the_control():
    usual = PoolingError().run(trial(None))
    assert set(usual.metrics) | set(usual.series) == PoolingError.produces({})
    assert usual.metrics["largest_over_bound"].value <= 1
    assert PoolingError(beyond=2).run(trial(None)).metrics["largest_over_bound"].value > 1.5
    # the amplitude of five cosines together is 5, so that errors relative to it stay small
    assert PoolingError(harmonics=5).run(trial(None)).metrics["largest_over_bound"].value < 1
