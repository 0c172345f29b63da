import torch

from baselines.transformer import SpectrogramTransformer


def small(**settings):
    shape = {"features": 8, "frames": 10, "classes": 3, "width": 16, "depth": 1, "heads": 2}
    return SpectrogramTransformer(**(shape | {"hidden": 32} | settings))


def test_ast_has_the_parameters_of_its_parts():
    with torch.device("meta"):
        model = SpectrogramTransformer(128, 128, 35)
    layer = 3 * 768 * 769 + 768 * 769 + 768 * 3072 + 3072 + 3072 * 768 + 768 + 4 * 768
    tokens = 2 * 768 + (12 * 12 + 2) * 768 + 256 * 768 + 768
    head = 768 * 35 + 35
    assert sum(p.numel() for p in model.parameters()) == 12 * layer + tokens + head + 4 * 768


def test_patches_overlap_by_the_stride():
    assert small(patch=(4, 4), stride=(3, 2)).positions.shape == (3 * 3 + 2, 16)
    assert small(patch=(1, 8), stride=(1, 8), class_tokens=1).positions.shape == (11, 16)


def test_every_patch_and_its_place_count():
    torch.manual_seed(0)
    model = small(patch=(1, 8), stride=(1, 8)).eval()
    x = torch.randn(2, 10, 8)
    swapped = x[:, [1, 0, *range(2, 10)]]
    assert model(x).shape == (2, 3)
    assert not torch.allclose(model(x), model(swapped), atol=1e-5)
    with torch.no_grad():
        model.positions.zero_()
    torch.testing.assert_close(model(x), model(swapped), rtol=1e-4, atol=1e-5)
