import pytest
import torch
from torch import nn

from experiments.nns_to_nos.model import ReleasedFNO, UNet, ViT, with_coordinates


def size(network):
    return sum(p.numel() * (2 if p.is_complex() else 1) for p in network.parameters())


def test_networks_have_the_sizes_of_the_released_classes():
    # Counted once with the released classes and configurations, FNO by neuralop itself.
    with torch.device("meta"):
        found = [size(UNet()), size(ViT(128)), size(ReleasedFNO(64, 62))]
    assert found == [65_502_463, 63_884_560, 65_013_187]


def test_the_unet_of_two_levels_has_the_parameters_counted_by_hand():
    network = UNet(width=2, multiples=(1, 2), kernel=3, blocks=1)

    def residual(a, b):
        return 2 * a + 2 * b + 9 * a * b + b + 9 * b * b + b + (a * b + b if a != b else 0)

    expected = (
        (9 * 3 * 2 + 2)  # first
        + residual(2, 2) + (9 * 2 * 2 + 2) + residual(2, 4)  # down
        + 2 * residual(4, 4)
        + residual(4 + 4, 4) + residual(4 + 2, 2)  # up, coarse
        + (16 * 2 * 2 + 2)
        + residual(2 + 2, 2) + residual(2 + 2, 2)  # up, fine
        + 2 * 2 + (9 * 2 + 1)
    )  # fmt: skip
    assert size(network) == expected


@pytest.mark.parametrize("d", [16, 32])
def test_networks_map_functions_on_other_grids(d):
    torch.manual_seed(0)
    x = torch.randn(2, 1, d, d)
    for network in (UNet(4, (1, 2, 2), 5), ViT(16, 4, 16, 2, 2, 32), ReleasedFNO(6, 6, 2)):
        assert network(x).shape == (2, 1, d, d)


def test_coordinates_are_those_of_the_same_places_on_nested_grids():
    x = torch.zeros(1, 1, 8, 8)
    fine, coarse = with_coordinates(x), with_coordinates(x[..., ::2, ::2])
    assert torch.equal(fine[..., ::2, ::2], coarse)
    assert fine[0, 1, 3, 0] == fine[0, 2, 0, 3] == 3 / 8


def test_attention_joins_all_patches_and_layers_differ():
    torch.manual_seed(0)
    network = ViT(16, 4, 16, 2, 2, 32).eval()
    x = torch.randn(1, 1, 16, 16)
    other = x.clone()
    other[..., 0, 0] += 1
    changed = (network(x) - network(other)).abs()[0, 0]
    assert float(changed[12:, 12:].max()) > 1e-6
    first, second = network.encoder.layers
    assert not torch.equal(first.linear1.weight, second.linear1.weight)
    assert not torch.equal(first.self_attn.in_proj_weight, second.self_attn.in_proj_weight)


def test_normalisation_is_over_whole_functions():
    for module in UNet(4, (1, 2), 3).modules():
        assert not isinstance(module, nn.GroupNorm) or module.num_groups == 1
