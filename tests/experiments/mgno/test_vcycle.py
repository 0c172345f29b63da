import pytest
import torch
import torch.nn.functional as F

from experiments.mgno.vcycle import Level, VCycle, level_sides

FOUR = ((1, 0), (2, 1), (1, 0), (2, 0))


def cycle(side=32, inputs=2, channels=3, smoothings=FOUR, **settings):
    torch.manual_seed(0)
    return VCycle(side, inputs, channels, smoothings, **settings).double()


def functions(*shape):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(1), dtype=torch.float64)


@pytest.mark.parametrize(
    "settings", [{}, {"padding": "circular"}, {"residual": True}, {"side": 27}]
)
def test_it_is_linear(settings):
    w = cycle(**settings)
    f, g = functions(2, 1, 2, w_side := settings.get("side", 32), w_side)
    assert torch.allclose(w(3 * f - 2 * g), 3 * w(f) - 2 * w(g), atol=1e-13)


@pytest.mark.parametrize("settings", [{"active": True}, {"norms": True}, {"bias": True}])
def test_biases_norms_and_activations_end_that(settings):
    w = cycle(**settings)
    f = functions(1, 2, 32, 32)
    assert float((w(2 * f) - 2 * w(f)).detach().abs().max()) > 1e-3


def test_with_circular_padding_shifts_by_a_cell_of_the_coarsest_level_commute():
    w = cycle(padding="circular")
    f = functions(1, 2, 32, 32)
    for shift in (8, 16):
        moved = w(f.roll((shift, -shift), (2, 3)))
        assert torch.allclose(moved, w(f).roll((shift, -shift), (2, 3)), atol=1e-13)
    assert float((w(f.roll(4, 2)) - w(f).roll(4, 2)).detach().abs().max()) > 1e-3


@pytest.mark.parametrize(
    "settings", [{"padding": "circular", "wrapped": False}, {}, {"padding": "reflect"}]
)
def test_any_other_border_ends_that(settings):
    w = cycle(**settings)
    f = functions(1, 2, 32, 32)
    assert float((w(f.roll(8, 2)) - w(f).roll(8, 2)).detach().abs().max()) > 1e-3


def test_it_is_the_algorithm_written_out():
    w = cycle(16, smoothings=((2, 1), (1, 1), (2, 0)), residual=True)
    f1 = functions(1, 2, 16, 16)

    def conv(x, layer, stride=1):
        return F.conv2d(x, layer.weight, stride=stride, padding=1)

    def smoothed(u, f, s):
        return u + conv(f - conv(u, s.operator), s.smoother)

    one, two, three = w.levels
    u1 = smoothed(conv(f1, w.first), f1, one.before[0])
    f2 = conv(f1 - conv(u1, one.transfer.operator), one.transfer.restrict, 2)
    u2 = smoothed(conv(u1, one.transfer.project, 2), f2, two.before[0])
    f3 = conv(f2 - conv(u2, two.transfer.operator), two.transfer.restrict, 2)
    u3 = conv(u2, two.transfer.project, 2)
    for s in three.before:
        u3 = smoothed(u3, f3, s)
    up = F.conv_transpose2d(u3, two.transfer.prolong.weight, stride=2, padding=1)
    u2 = smoothed(u2 + up, f2, two.after[0])
    up = F.conv_transpose2d(u2, one.transfer.prolong.weight, stride=2, padding=1)
    expected = smoothed(u1 + up, f1, one.after[0])
    assert torch.allclose(w(f1), expected, atol=1e-13)


def test_the_released_code_restricts_the_right_hand_side_itself():
    w = cycle(16, smoothings=((1, 0), (1, 0)))
    f = functions(1, 2, 16, 16)
    (top, bottom), u = w.levels, w.first(f)
    low = top.transfer.project(u)
    low = bottom.before[0](low, top.transfer.restrict(f))
    assert torch.allclose(w(f), u + top.transfer.prolong(low), atol=1e-13)


def test_a_periodic_prolongation_is_that_of_a_function_laid_three_times():
    w = cycle(8, smoothings=((1, 0), (1, 0)), padding="circular")
    transfer = w.levels[0].transfer
    u = functions(1, 3, 4, 4)
    thrice = F.conv_transpose2d(u.repeat(1, 1, 3, 3), transfer.prolong.weight, stride=2, padding=1)
    assert torch.allclose(transfer.up(u), thrice[..., 8:16, 8:16], atol=1e-13)
    with pytest.raises(ValueError, match="periodic"):
        cycle(9, smoothings=((1, 0), (1, 0)), padding="circular")


@pytest.mark.parametrize(("side", "margin", "sides"), [
    (211, 1, [211, 106, 53, 27, 14, 7]),
    (256, 1, [256, 128, 64, 32, 16, 8]),
    (101, 0, [101, 50, 24, 11, 5, 2]),
    (31, 0, [31, 15, 7, 3, 1]),
])  # fmt: skip
def test_levels_halve_and_odd_sides_come_back(side, margin, sides):
    assert level_sides(side, len(sides), margin) == sides
    w = cycle(side, 1, 2, [(1, 0)] * len(sides), margin=margin)
    assert w(torch.zeros(1, 1, side, side, dtype=torch.float64)).shape == (1, 2, side, side)
    kernels = [level.transfer.prolong.kernel_size[0] for level in w.levels if level.transfer]
    if side == 211:
        assert kernels == [3, 4, 3, 3, 4]  # as the released MgConv_DC_smooth has them


def test_every_smoothing_has_weights_of_its_own():
    w = cycle()
    assert isinstance(w.levels[1], Level)
    assert [(len(x.before), len(x.after)) for x in w.levels] == [(0, 0), (2, 1), (1, 0), (2, 0)]
    weights = [p for level in w.levels for s in level.before for p in s.parameters()]
    assert len({p.data_ptr() for p in weights}) == len(weights) == 10
    f = functions(1, 2, 32, 32)
    gradients = torch.autograd.grad(w(f).pow(2).sum(), list(w.parameters()))
    assert all(float(g.abs().max()) > 0 for g in gradients)


def test_it_needs_a_smoothing_to_begin_with():
    with pytest.raises(ValueError, match="smoothing"):
        cycle(smoothings=((0, 1), (1, 0)))
