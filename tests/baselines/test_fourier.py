import pytest
import torch

pytest.importorskip("neuralop")

from baselines.fourier import FNO


def test_it_has_the_weights_of_its_modes_and_takes_any_grid():
    torch.manual_seed(0)
    model = FNO(modes=6, width=5, layers=2)
    spectral = [p for p in model.parameters() if p.is_complex()]
    assert [p.numel() for p in spectral] == 2 * [5 * 5 * 6 * (6 // 2 + 1)]
    for side in (16, 24):
        assert model(torch.randn(2, 1, side, side)).shape == (2, 1, side, side)


def test_it_sees_the_same_function_on_a_finer_grid_alike():
    torch.manual_seed(0)
    model = FNO(modes=6, width=5, layers=2).eval()
    with torch.no_grad():
        coarse, fine = (
            model(torch.cos(6.283185 * torch.arange(d) / d).expand(1, 1, d, d)) for d in (16, 32)
        )
    assert float((fine[..., ::2, ::2] - coarse).abs().max()) < 0.2 * float(coarse.std())


def test_its_state_is_of_tensors_and_goes_into_another():
    torch.manual_seed(0)
    one, two = (torch.nn.Sequential(FNO(modes=4, width=3, layers=1)) for _ in range(2))
    state = one.state_dict()
    assert all(isinstance(value, torch.Tensor) for value in state.values())
    two.load_state_dict(state)
    x = torch.randn(1, 1, 8, 8)
    torch.testing.assert_close(one(x), two(x))
