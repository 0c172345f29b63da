"""What a trial reports: streamed figures against windows taken one by one, and speed."""

from functools import partial

import pytest
import torch
from torch import nn
from torchmetrics import MeanAbsoluteError

from experiments.streaminnc import speed
from experiments.streaminnc.data import simulated
from experiments.streaminnc.model import AccelerationNet, EEGNet, HeartRateNet
from experiments.streaminnc.procedure import (
    FIRST_BLOCK,
    Identity,
    Naive,
    StreamedFit,
    enough_history,
    nrmse,
    spectral_peak,
    streamed_figures,
)
from experiments.streaminnc.speed import Speed
from experiments.streaminnc.streaming import Streaming, stages, total_stride
from harness.procedures.base import Trial


@pytest.fixture(scope="module", autouse=True)
def one_thread():
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def small_net(**options: float) -> HeartRateNet:
    return HeartRateNet(channels=(4, 4, 8), **options)


def trial(model=None, data=None, workdir=None) -> Trial:
    return Trial(seed=0, data=data, model=model, device=torch.device("cpu"), workdir=workdir)


def net_and_data(history: int):
    torch.manual_seed(0)
    return small_net().eval(), simulated(subjects=5, windows=20, history=history)


def test_nrmse_by_hand():
    full, other = torch.tensor([0.0, 4.0, 2.0]), torch.tensor([1.0, 4.0, 2.0])
    assert nrmse(full, other) == pytest.approx((1 / 3) ** 0.5 / 4)


def test_spectral_peak_of_a_tone():
    t = torch.arange(256) / 32
    x = torch.stack([torch.cos(2 * torch.pi * f * t) for f in (0.9, 1.5, 2.4)])
    torch.testing.assert_close(spectral_peak(x), torch.tensor([54.0, 90.0, 144.0]), atol=1, rtol=0)
    slow = torch.cos(2 * torch.pi * 0.25 * t) + 0.1 * x[1]
    assert spectral_peak(slow[None]).item() == pytest.approx(90, abs=4)


def test_signal_padding_streams_exactly_and_what_breaks_it_does_not():
    net, data = net_and_data(history=320)
    figures = streamed_figures(net, data, misaligned_step=63)
    assert figures["nrmse_exact"] < 1e-4 and figures["activation_nrmse"] < 1e-4
    assert figures["nrmse_long_history"] < 1e-4
    assert figures["mae_exact"] == pytest.approx(figures["mae_full"], abs=1e-3)
    assert min(figures[f"nrmse_{way}"] for way in ("approximate", "misaligned")) > 1e-3
    aligned = streamed_figures(net, data, misaligned_step=48)
    assert aligned["nrmse_misaligned"] < 1e-4


def test_zero_padding_is_compared_with_windows_without_history():
    net, data = net_and_data(history=0)
    figures = streamed_figures(net, data, misaligned_step=63)
    assert figures["nrmse_exact"] > 1e-3 and figures["activation_nrmse"] > 1e-3
    assert figures["nrmse_long_history"] < 1e-4
    recording = data.recordings[0]
    with torch.no_grad():
        full = torch.cat([net(recording.x[a : a + 256][None, None]) for a in range(320, 1217, 64)])
    assert len(full) == len(recording.starts())
    errors = (full - recording.rate[5:]).abs()
    assert figures["mae_full"] == pytest.approx(float(errors.mean()), rel=1e-5)


@torch.no_grad()
def test_partial_streaming_knows_the_past_in_its_first_block_only():
    net, data = net_and_data(history=0)
    figures, recording = streamed_figures(net, data, misaligned_step=63), data.recordings[0]
    x = recording.windows(recording.starts(), enough_history(net))
    parts = stages(net.features)
    first, rest = parts[:FIRST_BLOCK], parts[FIRST_BLOCK:]
    for stage in first:
        x = stage.full(x)
    x = x[..., -(256 // total_stride(first)) :]
    for stage in rest:
        x = stage.full(x)
    full = net(recording.windows(recording.starts(), 0))
    assert figures["nrmse_partial"] == pytest.approx(nrmse(full, net.head(x)), rel=1e-3)
    assert figures["nrmse_partial"] < 0.9 * figures["nrmse_exact"]


@torch.no_grad()
def test_the_error_of_a_way_is_that_of_what_it_puts_out():
    net, data = net_and_data(history=0)
    figures, recording = streamed_figures(net, data, misaligned_step=63), data.recordings[0]
    streaming = Streaming(net.features, 256, 64, memory=False)
    output = net.head(streaming.run(recording.x[None])[recording.starts() // 64])
    expected = float((output - recording.rate_at(recording.starts())).abs().mean())
    assert figures["mae_approximate"] == pytest.approx(expected, rel=1e-5)
    assert abs(expected - figures["mae_full"]) > 1e-3


def test_a_receptive_field_needs_whole_columns():
    assert enough_history(HeartRateNet()) == 320
    assert enough_history(EEGNet()) == 64


def test_training_reports_what_it_declares(tmp_path):
    data = simulated(subjects=5, windows=16)
    fit = StreamedFit(loss=nn.L1Loss(), metrics={"mae": MeanAbsoluteError()}, epochs=1)
    outcome = fit.run(trial(small_net, data, tmp_path))
    declared = StreamedFit.produces({"metrics": {"mae": None}})
    validated = {"val_mae", "selected_mae"}  # there is no validation split
    assert set(outcome.metrics) | set(outcome.series) == declared - validated
    # one recording under test: the mean over windows is the mean over recordings
    assert outcome.metrics["mae_full"] == pytest.approx(outcome.metrics["mae"], rel=1e-4)


def test_the_mean_rule_knows_the_training_rates_only():
    data = simulated(subjects=5, windows=16)
    mean = Naive("mean").run(trial(data=data)).metrics["mae_full"]
    train = data.train[torch.arange(len(data.train))]["y"]
    test = data.test[torch.arange(len(data.test))]["y"]
    assert mean == pytest.approx(float((test - train.mean()).abs().mean()), rel=1e-5)


@pytest.mark.parametrize(
    ("options", "low", "high"),
    [
        ({}, 0, 1e-12),
        ({"history": 256}, 1e-4, 1),
        ({"history": 0}, 1e-2, 1),
        ({"step": 63}, 1e-2, 1),
        ({"step": 16}, 0, 1e-12),
    ],
)
def test_the_identity_holds_for_enough_history_and_aligned_steps(options, low, high):
    torch.manual_seed(1)
    found = Identity(windows=4, **options).run(trial(HeartRateNet)).metrics["embedding_nrmse"]
    assert low <= found <= high


def test_a_misaligned_step_disturbs_pooling_and_nothing_else():
    torch.manual_seed(1)
    unpooled = partial(HeartRateNet, pools=(1, 1, 1))
    found = Identity(windows=4, step=63).run(trial(unpooled)).metrics["embedding_nrmse"]
    assert found < 1e-12


def times_of(share):
    return lambda self, inferences, trial: {
        (way, divisor): share(way, divisor) for way, divisor in inferences
    }


def test_speed_of_a_machine_whose_time_is_its_operations(monkeypatch):
    monkeypatch.setattr(
        Speed, "_fastest", times_of(lambda way, d: (1.1 if way == "exact" else 1) / d)
    )
    outcome = Speed().run(trial(AccelerationNet))
    assert set(outcome.metrics) | set(outcome.series) == Speed.produces({})
    assert outcome.metrics["slope_approximate"] == pytest.approx(1)
    assert outcome.metrics["slope_exact"] == pytest.approx(1.1)
    assert outcome.metrics["linearity_exact"] == pytest.approx(1)
    assert outcome.metrics["buffer_overhead"] == pytest.approx(0.1)
    assert outcome.series["speedup_approximate"].y == pytest.approx([2, 3, 4, 5, 6, 8, 10, 12])


def test_speed_counts_the_operations_of_what_is_recomputed(monkeypatch):
    monkeypatch.setattr(Speed, "_fastest", times_of(lambda way, d: 1.0 if d < 6 else 1.01))
    exact, again = (Speed(recompute=r).run(trial(AccelerationNet)) for r in (False, True))
    assert exact.metrics["operations_deviation"].value == 0
    assert again.metrics["operations_deviation"].value == pytest.approx(11 / 12)


def timed(monkeypatch, model=AccelerationNet, **options):
    """What is timed, by way and divisor."""
    kept = {}

    def watched(self, inferences, trial):
        kept.update(inferences)
        return {(way, divisor): 1 / divisor for way, divisor in inferences}

    monkeypatch.setattr(Speed, "_fastest", watched)
    torch.manual_seed(0)
    Speed(divisors=[2, 4], **options).run(trial(model))
    with torch.no_grad():
        return {name: inference() for name, inference in kept.items()}


def test_all_that_is_timed_ends_with_the_head(monkeypatch):
    outputs = timed(monkeypatch, streams=3)
    assert {output.shape for output in outputs.values()} == {(3, 2)}


def test_approximate_streaming_forgets_and_the_control_of_both_does_not_stream(monkeypatch):
    def headless() -> AccelerationNet:
        net = AccelerationNet(window=24)
        net.head = nn.Flatten()  # whose mean over columns would hide a few of them
        return net

    streamed, again = (timed(monkeypatch, headless, recompute=r) for r in (False, True))
    for divisor in (2, 4):
        assert not torch.allclose(streamed["exact", divisor], streamed["approximate", divisor])
        torch.testing.assert_close(again["exact", divisor], again["approximate", divisor])


def test_the_fastest_round_counts_after_two_that_do_not(monkeypatch):
    rounds = [0.1, 0.2, 5.0, 3.0, 4.0]
    calls = iter([second * share for second in rounds for share in (2, 0.5, 0.5, 0.25, 0.25)])
    monkeypatch.setattr(speed, "_seconds", lambda inference: next(calls))
    found = Speed(divisors=[2, 4], rounds=3).run(trial(AccelerationNet))
    assert found.series["speedup_exact"].y == pytest.approx([4, 8])
    assert next(calls, None) is None
    rising = iter(range(1, 26))
    monkeypatch.setattr(speed, "_seconds", lambda inference: float(next(rising)))
    found = Speed(divisors=[2, 4], rounds=3).run(trial(AccelerationNet))
    assert found.series["speedup_exact"].y == pytest.approx([11 / 12, 11 / 14])


def test_speed_times_streaming_itself():
    outcome = Speed(divisors=[2, 4, 8], rounds=1, streams=2).run(trial(AccelerationNet))
    assert outcome.series["speedup_exact"].x == [2, 4, 8]
    assert min(outcome.series["speedup_exact"].y) > 0
