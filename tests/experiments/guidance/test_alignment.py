import numpy as np
import pytest
import torch
from torch import nn

from experiments.guidance.alignment import centred, cka, gram, pairs, recorded, similarities


def similarity(x, y):
    return float(cka(gram(x), gram(y)))


def by_singular_vectors(x, y):
    """CKA from principal components (Kornblith et al., 2019, eq. 14): λ-weighted overlaps."""
    centre = lambda a: a - a.mean(0)  # noqa: E731
    (u, s, _), (v, t, _) = (
        np.linalg.svd(centre(a.double().numpy()), full_matrices=False) for a in (x, y)
    )
    overlap = (np.outer(s**2, t**2) * (u.T @ v) ** 2).sum()
    return overlap / np.sqrt((s**4).sum() * (t**4).sum())


@pytest.fixture
def data():
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(40, 12, generator=generator, dtype=torch.float64)
    y = x[:, :5].tanh() + 0.5 * torch.randn(40, 5, generator=generator, dtype=torch.float64)
    return x, y


def test_cka_is_that_of_principal_components(data):
    x, y = data
    assert similarity(x, y) == pytest.approx(by_singular_vectors(x, y), rel=1e-12)
    assert 0.1 < similarity(x, y) < 0.9


def test_cka_is_one_for_what_differs_by_rotation_scale_and_shift(data):
    x, y = data
    rotation = torch.linalg.qr(torch.randn(12, 12, dtype=torch.float64))[0]
    assert similarity(x, 3 * x @ rotation + 7) == pytest.approx(1, abs=1e-12)
    assert similarity(3 * x @ rotation + 7, y) == pytest.approx(similarity(x, y), rel=1e-10)
    stretched = x * torch.linspace(0.1, 3, 12)  # not invariant to any invertible map
    assert similarity(x, stretched) < 0.95
    assert similarity(x, y) == similarity(y, x)


def test_cka_of_unrelated_activations_is_biased_by_p_over_n_plus_p():
    """Why the batch size is the same in all arms: E CKA ≈ p / (n + p), not 0."""
    generator = torch.Generator().manual_seed(0)
    for n, p in ((50, 200), (400, 100)):
        draws = [torch.randn(2, n, p, generator=generator) for _ in range(5)]
        mean = np.mean([similarity(*draw) for draw in draws])
        assert mean == pytest.approx(p / (n + p), rel=0.03)


def test_activations_that_do_not_vary_give_zero_and_a_gradient_that_is_a_number(data):
    x, _ = data
    constant = torch.ones(40, 3, dtype=torch.float64, requires_grad=True)
    found = similarities([constant], gram(x)[None].float())
    assert float(found.detach()) == 0
    found.sum().backward()
    assert torch.isfinite(constant.grad).all()


def test_gradient_is_that_of_finite_differences(data):
    x, y = data
    small = x[:6, :3].clone().requires_grad_()
    assert torch.autograd.gradcheck(lambda a: cka(gram(a), gram(y[:6])), small)


def test_a_batch_is_cut_out_of_the_gram_matrix_of_all(data):
    x, y = data
    rows = torch.randperm(40)[:16]
    whole = gram(x)[rows][:, rows]
    assert torch.allclose(centred(whole), gram(x[rows]))
    mine = similarities([y[rows].float()], whole[None].float())
    assert float(mine) == pytest.approx(similarity(x[rows], y[rows]), abs=1e-5)


def test_layers_are_spread_evenly_and_the_last_of_several_wins():
    assert pairs(4, 10) == [(0, 0), (1, 3), (2, 6), (3, 9)]
    assert pairs(1, 10) == [(0, 0)]
    assert pairs(3, 3) == [(0, 0), (1, 1), (2, 2)]
    deep = pairs(21, 48)  # ResNet-18 and the deep FCN: all layers of the guide
    assert len(deep) == 21 and deep[0] == (0, 0) and deep[-1] == (20, 47)
    many = pairs(32, 4)  # four Transformer layers and four recurrent ones
    assert [target for _, target in many] == [0, 1, 2, 3]
    assert [guide for guide, _ in many] == [5, 15, 25, 31]
    with pytest.raises(ValueError, match="none to align"):
        pairs(0, 4)


def test_layers_are_recorded_before_their_activations_without_the_logits():
    model = nn.Sequential(nn.Linear(3, 4), nn.ReLU(), nn.Linear(4, 5), nn.ReLU(), nn.Linear(5, 2))
    x = torch.randn(6, 3)
    output, layers = recorded(model, x)
    assert torch.equal(output, model(x))
    assert len(layers) == 2 and float(layers[0].detach().min()) < 0
    assert torch.equal(layers[0], model[0](x)) and torch.equal(layers[1], model[:3](x))
    assert not any(module._forward_hooks for module in model.modules())


def test_both_forms_of_a_layers_similarity_are_cka(data):
    """Fewer features than examples, and more: maps of a convolution (40, 2, 5, 5)."""
    x, y = data
    maps = torch.randn(40, 2, 5, 5).double() + y[:, :2, None, None]
    kernels = torch.stack([gram(x), gram(x)]).float()
    found = similarities([y, maps], kernels)
    assert float(found[0]) == pytest.approx(similarity(x, y), abs=1e-5)
    assert float(found[1]) == pytest.approx(similarity(x, maps.flatten(1)), abs=1e-5)
