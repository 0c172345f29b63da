"""Recordings and windows: what is cut where, who is held out, and the two readers."""

import pickle

import numpy as np
import pytest
import torch
from scipy import io

from experiments.streaminnc.data import (
    LEAD,
    RATE,
    STEP,
    WINDOW,
    Recording,
    condition,
    group,
    ieee_spc,
    leave_out,
    ppg_dalia,
    simulated,
)
from experiments.streaminnc.procedure import spectral_peak


def ramp(subject: str = "a", windows: int = 9) -> Recording:
    n = STEP * (windows - 1) + WINDOW
    return Recording(subject, torch.arange(float(n)), 60 + torch.arange(float(windows)))


def test_windows_hold_the_samples_of_their_time_and_before():
    r = ramp()
    starts = r.starts()
    assert starts.tolist() == [64 * k for k in range(LEAD, 9)]
    windows = r.windows(starts, history=256)
    assert windows.shape == (4, 1, 512)
    assert windows[1, 0, [0, 256, 511]].tolist() == [384 - 256, 384, 384 + 255]
    with pytest.raises(ValueError, match="beyond"):
        r.windows(torch.tensor([0]), history=1)
    with pytest.raises(ValueError, match="beyond"):
        r.windows(torch.tensor([len(r.x) - WINDOW + 1]))


def test_other_steps_start_on_their_own_grid_with_interpolated_rates():
    r = ramp()
    starts = r.starts(63)
    assert (starts % 63 == 0).all() and starts[0] >= LEAD * STEP > starts[0] - 63
    assert starts[-1] + WINDOW <= len(r.x)
    torch.testing.assert_close(r.rate_at(starts), 60 + starts / 64)


def test_rates_beyond_the_signal_s_end_are_left_out():
    r = Recording("a", torch.zeros(STEP * 7 + WINDOW), torch.zeros(20))
    assert r.starts()[-1] == STEP * 7


def test_subjects_are_dealt_once_and_whole():
    subjects = [f"{i:02d}" for i in range(20)]
    dealt = [group(subjects, i, 5) for i in range(5)]
    assert sorted(s for part in dealt for s in part) == subjects
    assert group(subjects, 5, 5) == dealt[0]


def test_no_subject_is_trained_and_tested_on():
    recordings = [ramp("a"), ramp("b"), ramp("b"), ramp("c")]
    data = leave_out(recordings, {"b"}, history=64)
    assert [r.subject for r in data.recordings] == ["b", "b"]
    assert len(data.train) == len(data.test) == 2 * 4
    with pytest.raises(ValueError, match="no recordings"):
        leave_out(recordings, {"z"}, 0)
    with pytest.raises(ValueError, match="history"):
        leave_out(recordings, {"b"}, LEAD * STEP + 1)


def test_conditioning_keeps_the_pulse_and_removes_drift_and_noise():
    t = np.arange(0, 60, 1 / 125)
    pulse = np.cos(2 * np.pi * 1.5 * t)
    x = condition(5 + pulse + 3 * np.cos(2 * np.pi * 0.1 * t) + np.cos(2 * np.pi * 20 * t), 125)
    assert len(x) == 60 * RATE
    assert (x.mean().abs() < 1e-6) and (x.std(correction=0) - 1).abs() < 1e-5
    expected = np.sqrt(2) * np.cos(2 * np.pi * 1.5 * np.arange(len(x)) / RATE)
    middle = slice(10 * RATE, 50 * RATE)
    assert np.abs(x.numpy()[middle] - expected[middle]).max() < 0.1


def tone(n: int, frequency: float, rate: float) -> np.ndarray:
    return np.cos(2 * np.pi * frequency * np.arange(n) / rate)


def test_the_cup_s_reader_takes_the_first_photoplethysmogram(tmp_path):
    """Row 1 where there is an electrocardiogram, row 0 where there is none."""
    for folder in ("Training_data", "Extra_TrainingData", "TestData", "TrueBPM"):
        (tmp_path / folder).mkdir()
    n, m = 250 * 11 + 1000, 12
    wrong, right = tone(n, 2.5, 125), tone(n, 1.5, 125)

    def save(name, key, value):
        io.savemat(tmp_path / name, {key: value})

    rates = np.full((m, 1), 90.0)
    with_ecg = np.stack([wrong, right, wrong, wrong, wrong, wrong])
    for i in (1, 2, 3):
        save(f"Training_data/DATA_0{i}_TYPE02.mat", "sig", with_ecg)
        save(f"Training_data/DATA_0{i}_TYPE02_BPMtrace.mat", "BPM0", rates)
    save("Extra_TrainingData/DATA_S04_T01.mat", "sig", with_ecg)
    save("Extra_TrainingData/BPM_S04_T01.mat", "BPM0", rates)
    for name in ("S04_T02", "S05_T02"):
        save(f"TestData/TEST_{name}.mat", "sig", with_ecg[1:])
        save(f"TrueBPM/True_{name}.mat", "BPM0", rates)

    seen = []
    for seed in range(5):
        data = ieee_spc(tmp_path, seed=seed, history=64)
        seen += [r.subject for r in data.recordings]
        for split in (data.train, data.test):
            batch = split[torch.arange(len(split))]
            assert batch["x"].shape[1:] == (1, 64 + 256)
            assert (spectral_peak(batch["x"][:, 0]) - 90).abs().max() < 2
            assert (batch["y"] == 90).all()
    assert sorted(seen) == ["01", "02", "03", "S04", "S04", "S05"]


def test_the_cup_s_reader_says_what_is_missing(tmp_path):
    with pytest.raises(FileNotFoundError, match="TEST"):
        ieee_spc(tmp_path)


def test_the_dalia_reader(tmp_path):
    n = 128 * 9 + 512
    for subject, frequency in (("S1", 1.5), ("S2", 2.0), ("S15", 1.0)):
        (tmp_path / subject).mkdir()
        wrist = {"BVP": tone(n, frequency, 64)[:, None], "ACC": np.zeros((n // 2, 3))}
        content = {"signal": {"wrist": wrist}, "label": np.full(10, 60 * frequency)}
        (tmp_path / subject / f"{subject}.pkl").write_bytes(pickle.dumps(content))
    data = ppg_dalia(tmp_path, subject=15)
    assert [r.subject for r in data.recordings] == ["S15"]
    batch = data.train[torch.arange(len(data.train))]
    assert (spectral_peak(batch["x"][:, 0]) - batch["y"]).abs().max() < 2
    with pytest.raises(ValueError, match="S7"):
        ppg_dalia(tmp_path, subject=7)
    with pytest.raises(FileNotFoundError):
        ppg_dalia(tmp_path / "S1" / "none")


def test_simulated_pulses_have_the_rate_they_are_labelled_with():
    data = simulated(seed=3, subjects=5, windows=30)
    batch = data.test[torch.arange(len(data.test))]
    error = (spectral_peak(batch["x"][:, 0]) - batch["y"]).abs()
    assert error.median() < 2
    assert batch["y"].min() >= 60 and batch["y"].max() <= 170
    again = simulated(seed=3, subjects=5, windows=30)
    assert torch.equal(again.recordings[0].x, data.recordings[0].x)
    other = simulated(seed=4, subjects=5, windows=30)
    assert not torch.equal(other.recordings[0].x, data.recordings[0].x)
