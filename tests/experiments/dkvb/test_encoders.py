import torch
import torch.nn.functional as F
from torch import nn

from experiments.dkvb.encoders import (
    Given,
    Network,
    Patches,
    PatchFeatures,
    encoded,
    normalised,
    standardised,
)
from harness.procedures.base import Trial


def test_features_are_standardised_by_the_unlabelled_ones_and_by_one_deviation():
    torch.manual_seed(0)
    x = torch.randn(4000, 3) * torch.tensor([1.0, 2.0, 3.0]) + 5
    module = Given(3).fitted(None, {"train_x": 100 * x, "keys_other": x, "keys_own": 9 * x})
    z = encoded(module, x)
    torch.testing.assert_close(z.mean(0), torch.zeros(3), atol=1e-4, rtol=0)
    torch.testing.assert_close(z.var(0).mean(), torch.tensor(1.0), atol=1e-2, rtol=0)
    assert z.std(0)[2] > 2.5 * z.std(0)[0]
    same = Given(3, centred=False).fitted(None, {"keys_other": x})
    assert torch.equal(encoded(same, x), x)


def test_patch_features_are_what_the_formula_says():
    torch.manual_seed(0)
    mean, whitening, centroids = torch.randn(4), torch.randn(4, 4), torch.randn(3, 4)
    x = torch.randn(2, 1, 5, 5)
    found = PatchFeatures(2, 1, mean, whitening, centroids)(x)
    sums = torch.zeros(2, 3, 4, 4)
    for n in range(2):
        for i in range(4):
            for j in range(4):
                patch = x[n, 0, i : i + 2, j : j + 2].flatten()
                patch = (patch - patch.mean()) / (patch.var(unbiased=False) + 0.01).sqrt()
                away = ((patch - mean) @ whitening - centroids).norm(dim=1)
                sums[n, :, i, j] = F.relu(away.mean() - away)
    quarters = [sums[:, :, i : i + 2, j : j + 2].mean((2, 3)) for i in (0, 2) for j in (0, 2)]
    expected = torch.stack(quarters, 2).flatten(1)
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-4)


def test_patches_are_fitted_to_unlabelled_images_alone():
    torch.manual_seed(0)
    x = torch.randn(20, 1, 8, 8)
    encoder = Patches(4, side=3, drawn=300)
    fits = [
        encoder.fitted(None, {"train_x": train, "keys_other": x}) for train in (x, 50 * x.abs())
    ]
    assert torch.equal(encoded(fits[0], x), encoded(fits[1], x))
    assert encoded(fits[0], x).shape == (20, encoder.features) == (20, 16)


def test_a_network_learns_elsewhere_and_its_body_is_kept(tmp_path):
    torch.manual_seed(0)
    y = torch.arange(120) % 2
    x = torch.randn(120, 1, 8, 8) * 0.5
    x[:, 0, :4] += 2.0 * y[:, None, None]
    encoder = Network((4, 6), epochs=6)
    images = {"elsewhere_x": x, "elsewhere_y": y, "keys_other": x}
    trial = Trial(0, None, nn.Identity, torch.device("cpu"), tmp_path)
    z = encoded(encoder.fitted(trial, images), x)
    assert z.shape == (120, 6) and encoder.features == 6
    between = (z[y == 1].mean(0) - z[y == 0].mean(0)).norm()
    assert between > 2 * torch.stack([z[y == k].std(0).norm() for k in (0, 1)]).max() / 6**0.5


def test_encoders_are_frozen_and_in_evaluation_mode():
    body = nn.Sequential(nn.BatchNorm1d(2))
    x = torch.randn(50, 2)
    module = standardised(body, x)
    before = body[0].running_mean.clone()
    z = encoded(module.train(), x)
    assert not z.requires_grad and torch.equal(before, body[0].running_mean)
    torch.testing.assert_close(normalised(x).mean(1), torch.zeros(50), atol=1e-5, rtol=0)
