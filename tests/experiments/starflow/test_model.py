import math

import pytest
import torch
from torch.distributions import Normal
from torch.nn import functional as F

from experiments.starflow.guidance import guided
from experiments.starflow.model import DROPPED, UNIT, Flow, STARFlowBlock, TARFlowBlock, rotations

KINDS = ["tarflow", "starflow"]


def flow(kind="starflow", layers=(1, 2, 1), noise=0.1, **settings):
    """A flow in double precision that is far from the identity."""
    torch.manual_seed(0)
    made = Flow(2, 3, 4, 3, 16, layers, 8, kind, **settings).double()
    for parameter in made.parameters():
        parameter.requires_grad_(False)
        parameter.data += noise * torch.randn_like(parameter)
    return made


def batch(count=4):
    torch.manual_seed(1)
    x = torch.randn(count, 6, 4, dtype=torch.float64)
    return x, torch.tensor([0, 1, 2, DROPPED])[:count]


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("told", ["deep", "all", "none"])
def test_decoding_is_the_inverse(kind, told):
    made, (x, label) = flow(kind, told=told), batch()
    z, _ = made.encode(x, label)
    assert (z - x).abs().max() > 0.3
    assert torch.allclose(made.decode(z, label), x, atol=1e-11)


@pytest.mark.parametrize("kind", KINDS)
def test_the_log_determinant_is_that_of_the_jacobian(kind):
    made, (x, label) = flow(kind, told="all"), batch()
    _, found = made.encode(x, label)
    for i in range(4):
        one = lambda a, i=i: made.encode(a[None], label[i : i + 1])[0].flatten()  # noqa: E731
        jacobian = torch.autograd.functional.jacobian(one, x[i]).reshape(24, 24)
        assert torch.linalg.slogdet(jacobian)[1] == pytest.approx(float(found[i]), abs=1e-10)
        assert abs(found[i]) > 0.1


@pytest.mark.parametrize("kind", KINDS)
def test_the_likelihood_is_that_of_the_image_of_normal_noise(kind):
    """One block, of which the conditionals are told: a product of normal densities."""
    made, (x, label) = flow(kind, layers=(2,)), batch()
    mean, scale = made.blocks[0].conditionals(x, label)
    by_hand = -Normal(mean, scale).log_prob(x).mean((1, 2))
    assert torch.allclose(made(x, label), by_hand, atol=1e-12)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("flipped", [False, True])
def test_a_block_sees_nothing_of_its_own_token_and_of_later_ones(kind, flipped):
    block = {"tarflow": TARFlowBlock, "starflow": STARFlowBlock}[kind]
    made = block((2, 3), 4, 16, 2, 8, flipped, 3).double()
    for parameter in made.parameters():
        parameter.data += 0.2 * torch.randn_like(parameter)
    x, label = batch(1)
    found = torch.autograd.functional.jacobian(
        lambda a: torch.cat(made.conditionals(made.ordered(a), label), dim=-1), x
    )
    seen = found.abs().sum((0, 2, 3, 5))  # (token said, token read)
    seen = seen.flip(1) if flipped else seen
    assert seen.triu().eq(0).all()
    assert seen.tril(-1).gt(0).sum() == 15


@pytest.mark.parametrize("kind", KINDS)
def test_a_new_flow_is_near_the_identity(kind):
    made = Flow(2, 3, 4, 3, 16, (1, 1), 8, kind).double()
    for block in made.blocks:
        block.proj_out.bias.data.zero_()
    x, label = batch()
    z, logdet = made.encode(x, label)
    assert torch.allclose(z, x) and torch.allclose(logdet, torch.zeros(4).double(), atol=1e-12)


def test_blocks_read_from_either_end_and_the_deep_one_from_the_first_token():
    flips = lambda *args, **kw: [b.flipped for b in Flow(2, 3, 4, layers=args, head=8, **kw).blocks]  # noqa: E731
    assert flips(1, 1, 1, 2) == [True, False, True, False]
    assert flips(1, 1, 2) == [False, True, False]
    assert flips(1, 1, 2, 1, kind="tarflow") == [False, True, False, True]
    assert flips(1, 1, 1, alternate=False) == [False, False, False]


def test_the_last_block_is_next_to_the_noise_and_the_only_one_that_is_told_the_class():
    made, (x, label) = flow(layers=(1, 1, 3)), batch()
    assert [len(b.attn_blocks) for b in made.blocks] == [1, 1, 3]
    assert [b.classes for b in made.blocks] == [0, 0, 3]
    other = (label + 1) % 3
    shallow, inner = x, x
    for block in list(made.blocks)[:2]:
        shallow, inner = block(shallow, label)[0], block(inner, other)[0]
    assert torch.equal(shallow, inner)
    assert not torch.allclose(made.encode(x, label)[0], made.encode(x, other)[0])
    assert [b.classes for b in flow(told="all").blocks] == [3, 3, 3]


@pytest.mark.parametrize("kind", KINDS)
def test_the_first_token(kind):
    """TARFlow leaves it as it is; STARFlow transforms it by a learned start, and by the class."""
    made, (x, label) = flow(kind, layers=(1,)), batch(3)
    z, _ = made.encode(x, label)
    assert torch.allclose(z[:, 0], x[:, 0]) == (kind == "tarflow")
    if kind == "starflow":
        affine = (x[:, 0] - z[:, 0])[0] - (x[:, 0] - z[:, 0])[1]
        assert affine.abs().max() > 1e-3


def test_a_class_that_is_not_told_is_the_mean_of_all_in_tarflow_and_a_token_in_starflow():
    tarflow, (x, _) = flow("tarflow", layers=(1,)), batch()
    dropped = torch.full((4,), DROPPED)
    mean = tarflow.blocks[0].class_embed.data.mean(0, keepdim=True)
    expected = tarflow(x, dropped)
    tarflow.blocks[0].class_embed.data[:] = mean
    assert torch.allclose(tarflow(x, torch.zeros(4).long()), expected)
    starflow = flow(layers=(1,))
    assert not torch.allclose(starflow(x, dropped), starflow(x, None))
    starflow.blocks[0].proj_txt.weight.data.zero_()
    assert torch.allclose(starflow(x, torch.zeros(4).long()), starflow(x, dropped))


def test_scales_are_exp_or_softplus_with_a_soft_clip():
    made = flow(layers=(1,), told="none").blocks[0]
    made.proj_out.weight.data.zero_()
    made.proj_out.bias.data = torch.tensor([0.0, 1.0, -2.0, 100.0, 3.0, 0.0, 0.0, 0.0]).double()
    mean, scale = made.conditionals(batch()[0], None)
    clipped = 4 * torch.tanh(made.proj_out.bias.data / 4)
    assert float(scale[0, 0, 0]) == pytest.approx(1.0, abs=1e-12)
    assert torch.allclose(scale[1, 2], (1 + torch.exp(clipped[:4] + UNIT)).log())
    assert torch.allclose(mean[1, 2], clipped[4:]) and mean.max() == pytest.approx(
        4 * math.tanh(0.75)
    )
    made = flow("tarflow", layers=(1,), told="none").blocks[0]
    made.proj_out.weight.data.zero_()
    made.proj_out.bias.data = torch.tensor([0.0, 1.0, -2.0, 1.5, 3.0, 0.0, 0.0, 0.0]).double()
    mean, scale = made.conditionals(batch()[0], None)
    assert torch.allclose(scale[0, 1], made.proj_out.bias.data[:4].exp())
    assert torch.equal(mean[0, 1], made.proj_out.bias.data[4:])


def test_rotary_positions_tell_rows_from_columns():
    angles = rotations(2, 3, 8)
    assert angles.shape == (6, 4)
    assert torch.equal(angles[4], torch.tensor([1.0, 0.01, 1.0, 0.01]))  # row 1, column 1
    assert torch.equal(angles[2], torch.tensor([0.0, 0.0, 2.0, 0.02]))
    with pytest.raises(ValueError, match="not 6"):
        rotations(2, 3, 6)


def test_attention_is_that_of_torch_over_the_same_weights():
    made = flow("tarflow", layers=(1,)).blocks[0].attn_blocks[0].attention
    x = torch.randn(3, 5, 16).double()
    reference = torch.nn.MultiheadAttention(16, 2, batch_first=True).double()
    reference.in_proj_weight.data, reference.in_proj_bias.data = made.qkv.weight, made.qkv.bias
    reference.out_proj.weight.data, reference.out_proj.bias.data = made.proj.weight, made.proj.bias
    normed = F.layer_norm(x, (16,), made.norm.weight, made.norm.bias)
    mask = torch.ones(5, 5, dtype=torch.bool).triu(1)
    expected, _ = reference(normed, normed, normed, attn_mask=mask)
    assert torch.allclose(made(x, None, None, ""), expected, atol=1e-12)


def test_guidance_acts_in_the_blocks_that_are_told_and_starts_from_none():
    made, (z, _) = flow(), batch(3)
    label = torch.tensor([0, 1, 2])
    assert torch.allclose(made.decode(z, label, 1e-9), made.decode(z, label), atol=1e-6)
    assert not torch.allclose(made.decode(z, label, 2.0), made.decode(z, label), atol=1e-2)
    assert torch.equal(made.decode(z, None, 2.0), made.decode(z, None))
    untold = flow(told="none")
    assert torch.equal(untold.decode(z, label, 2.0), untold.decode(z, label))


def test_a_guided_sample_follows_the_guided_conditionals():
    """Token by token without a cache, from the conditionals with and without the class."""
    made, (z, _) = flow(layers=(2,)), batch(3)
    block, label = made.blocks[0], torch.tensor([2, 0, 1])
    x = torch.zeros_like(z)
    for n in range(6):
        told = block.conditionals(x, label)
        free = block.conditionals(x, torch.full_like(label, DROPPED))
        mean, scale = guided(told, free, 1.5)
        x[:, n] = (mean + scale * z)[:, n]
    assert torch.allclose(made.decode(z, label, 1.5), x, atol=1e-11)
