import numpy as np
import pytest
import torch

from experiments.lmuformer.features import FilterBank, add_noise, mask_band, mel_filters

audio_utils = pytest.importorskip("transformers.audio_utils")


def kaldi(x, rate, bins, length, shift, padded):
    """The same features by the transformers library, in numpy."""
    filters = audio_utils.mel_filter_bank(
        num_frequency_bins=padded // 2 + 1,
        num_mel_filters=bins,
        min_frequency=20,
        max_frequency=rate // 2,
        sampling_rate=rate,
        norm=None,
        mel_scale="kaldi",
        triangularize_in_mel_space=True,
    )
    return audio_utils.spectrogram(
        x,
        audio_utils.window_function(length, "hann", periodic=False),
        frame_length=length,
        hop_length=shift,
        fft_length=padded,
        power=2.0,
        center=False,
        preemphasis=0.97,
        mel_filters=filters,
        log_mel="log",
        mel_floor=1.192092955078125e-07,
        remove_dc_offset=True,
    ).T


@pytest.mark.filterwarnings("ignore:At least one mel filter")
@pytest.mark.parametrize(
    ("rate", "bins", "length", "shift", "padded"),
    [(16000, 128, 400, 160, 512), (8000, 40, 256, 128, 256)],
)
def test_features_are_kaldis(rate, bins, length, shift, padded):
    x = np.random.default_rng(0).normal(0.1, 0.3, 4000)
    found = FilterBank(rate, bins, length, shift)(torch.from_numpy(x).float()[None])[0]
    expected = kaldi(x, rate, bins, length, shift, padded)
    assert found.shape == expected.shape
    assert len(found) == FilterBank(rate, bins, length, shift).frames(4000)
    np.testing.assert_allclose(found.numpy(), expected, atol=1e-2)


def test_a_tone_sounds_in_the_filter_around_it():
    t = torch.arange(4000) / 8000
    found = FilterBank(8000, 40, 256, 128)(torch.sin(2 * torch.pi * 1000 * t)[None])[0]
    filters = mel_filters(8000, 40, 256)
    assert found.mean(0).argmax() == filters[32].argmax()  # line 32 of 256 is 1000 Hz


def test_a_waveform_too_short_for_a_frame_has_none():
    assert FilterBank(8000, 40, 256, 128).frames(255) == 0
    assert FilterBank(8000, 40, 256, 128).frames(256) == 1


@pytest.mark.parametrize("dim", [1, 2])
def test_masks_blank_one_band_of_every_example(dim):
    generator = torch.Generator().manual_seed(0)
    x = mask_band(torch.ones(500, 30, 20), 12, dim, generator, value=7.0)
    blank = (x == 7.0).all(dim=3 - dim)
    widths = blank.sum(1)
    assert widths.min() == 0 and widths.max() == 11
    edges = blank.int().diff(dim=1).abs().sum(1)
    assert edges.max() <= 2  # one band, not several
    assert (x == 7.0).sum() == widths.sum() * x.shape[3 - dim]


def test_noise_has_the_ratio_that_was_asked_for():
    generator = torch.Generator().manual_seed(0)
    x = torch.zeros(3, 40000)
    x[:, :20000] = torch.tensor([0.1, 1.0, 1.0])[:, None] * torch.randn(3, 20000)
    ratios = torch.tensor([0.0, 0.0, 10.0])
    noise = add_noise(x, ratios, generator) - x
    found = 10 * (x[:, :20000].square().mean(1) / noise.square().mean(1)).log10()
    assert (found - ratios).abs().max() < 0.2
