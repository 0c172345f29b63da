"""TS-LSTM, the temporal convolutions and the baselines against steps taken by hand."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torchmetrics.classification import MulticlassAccuracy

from experiments.tslstm.lstm import PeepholeLSTM
from experiments.tslstm.model import (
    TSLSTM,
    AvgScore,
    InceptionModule,
    Pooled,
    StepNorm,
    TemporalConvNet,
    TemporalInception,
    pool_steps,
)

BATCH, STEPS, WIDTH, CLASSES = 6, 25, 10, 4


def videos(seed: int = 0, steps: int = STEPS, width: int = WIDTH) -> Tensor:
    return torch.randn(BATCH, steps, width, generator=torch.Generator().manual_seed(seed))


def seeded(build: type[nn.Module], *args: object, **kwargs: object) -> nn.Module:
    torch.manual_seed(3)
    return build(*args, **kwargs)


def lstm_by_hand(lstm: nn.Module, sequence: Tensor) -> Tensor:
    """The gate equations of one layer, step by step and gate by gate; the last hidden state."""
    weights = [t.detach() for t in lstm.parameters()]
    if isinstance(lstm, PeepholeLSTM):
        see, matrix, bias, recurrent = weights
    else:
        matrix, recurrent, bias, other = weights
        bias, see = bias + other, torch.zeros(3, recurrent.shape[1])
    size = recurrent.shape[1]
    h = c = torch.zeros(len(sequence), size)

    def gate(index: int, x: Tensor, seen: Tensor | float = 0.0) -> Tensor:
        rows = slice(index * size, (index + 1) * size)
        return x @ matrix[rows].T + h @ recurrent[rows].T + bias[rows] + seen

    for x in sequence.unbind(1):
        i, f = gate(0, x, see[0] * c), gate(1, x, see[1] * c)
        c = f.sigmoid() * c + i.sigmoid() * gate(2, x).tanh()
        h = gate(3, x, see[2] * c).sigmoid() * c.tanh()
    return h


def over_batch(x: Tensor) -> Tensor:
    """Batch normalisation with unit scale and no shift."""
    return (x - x.mean(0)) / torch.sqrt(x.var(0, unbiased=False) + 1e-5)


@pytest.mark.parametrize("segments", [1, 3, 5])
@pytest.mark.parametrize("pool", ["max", "mean", None])
@pytest.mark.parametrize("peepholes", [True, False])
def test_tslstm_equals_the_equations_stepped_by_hand(
    segments: int, pool: str | None, peepholes: bool
) -> None:
    settings = {"hidden": 7, "segments": segments, "pool": pool, "peepholes": peepholes}
    model = seeded(TSLSTM, WIDTH, CLASSES, **settings)
    x = videos()
    length = STEPS // segments
    sequence = []
    for k in range(segments):
        z = torch.stack([over_batch(x[:, k * length + t]) for t in range(length)], dim=1)
        if pool == "max":
            sequence.append(z.max(1).values)
        elif pool == "mean":
            sequence.append(z.sum(1) / length)
        else:
            sequence.extend(z.unbind(1))
    state = lstm_by_hand(model.lstm, torch.stack(sequence, dim=1))
    expected = F.log_softmax(over_batch(state) @ model.head.weight.T + model.head.bias, dim=1)
    torch.testing.assert_close(model(x), expected, atol=1e-5, rtol=1e-4)


def test_frames_after_the_last_whole_segment_are_dropped() -> None:
    """floor(25/3) = 8, so frame 25 has no influence and frame 24 has."""
    model = seeded(TSLSTM, WIDTH, CLASSES, hidden=7, segments=3).eval()
    x = videos()
    last, before = x.clone(), x.clone()
    last[:, 24] += 100
    before[:, 23] += 100
    torch.testing.assert_close(model(x), model(last))
    assert not torch.allclose(model(x), model(before))


@pytest.mark.parametrize("pool", ["max", "mean"])
def test_order_counts_between_segments_and_not_within(pool: str) -> None:
    model = seeded(TSLSTM, WIDTH, CLASSES, hidden=7, segments=3, pool=pool).eval()
    x = videos()
    within = x.clone()
    within[:, 8:16] = x[:, 8:16][:, torch.randperm(8)]
    between = torch.cat([x[:, 8:16], x[:, :8], x[:, 16:]], dim=1)
    torch.testing.assert_close(model(within), model(x))
    assert not torch.allclose(model(between), model(x), atol=1e-4)


def test_sizes_of_the_released_network_and_of_torchs_lstm() -> None:
    """9,518,181 as the authors' Torch7 code counts for UCF101: three peepholes, one bias a gate."""
    with torch.device("meta"):
        released, ours = TSLSTM(4096, 101), TSLSTM(4096, 101, peepholes=False)
    assert sum(p.numel() for p in released.parameters()) == 9_518_181
    assert sum(p.numel() for p in ours.parameters()) == 9_518_181 + 4 * 512 - 3 * 512


def test_each_segment_has_its_own_normalisation() -> None:
    model = seeded(TSLSTM, WIDTH, CLASSES, hidden=7, segments=3)
    model(torch.cat([videos() + 5, videos(1)], dim=1)[:, [*range(8), *range(30, 47)]])
    means = [norm.running_mean.mean().item() for norm in model.segment_norms]
    assert means[0] > 2.5 and abs(means[1]) < 0.5 and abs(means[2]) < 0.5


def test_more_segments_than_steps_is_an_error() -> None:
    with pytest.raises(ValueError, match="4 steps"):
        TSLSTM(WIDTH, CLASSES, segments=5)(videos(steps=4))


def test_torch7_initialisation_covers_the_scales_of_batch_norm() -> None:
    model = seeded(TSLSTM, 60, CLASSES, hidden=32, init="torch7_uniform")
    everything = torch.cat([p.detach().flatten() for p in model.parameters()])
    assert everything.abs().max() <= 0.1
    assert abs(everything.std().item() - 0.1 / 3**0.5) < 0.002
    assert model.segment_norms[0].weight.min() < 0
    assert torch.equal(TSLSTM(60, CLASSES).segment_norms[0].weight, torch.ones(60))


def test_step_norm_keeps_its_statistics_where_the_videos_are() -> None:
    norm = StepNorm(3).to("meta").train()
    norm(torch.empty(4, 5, 3, device="meta"))
    assert norm.running_mean.device == norm.running_var.device == torch.device("meta")


def test_step_norm_takes_statistics_per_step_and_shares_running_ones() -> None:
    norm = StepNorm(WIDTH)
    x = videos() * torch.arange(1, STEPS + 1)[None, :, None]
    out = norm(x)
    torch.testing.assert_close(out[:, 6], over_batch(x[:, 6]), atol=1e-5, rtol=1e-4)
    torch.testing.assert_close(out.mean(0), torch.zeros(STEPS, WIDTH), atol=1e-5, rtol=0)
    expected = torch.zeros(WIDTH)
    for step in x.unbind(1):
        expected = 0.9 * expected + 0.1 * step.mean(0)
    torch.testing.assert_close(norm.running_mean, expected)


def test_steps_are_normalised_as_one_after_the_other() -> None:
    """As torch's layer does that is called step by step: outputs, gradients, statistics."""
    norm, reference = StepNorm(WIDTH), nn.BatchNorm1d(WIDTH)
    for layer in (norm, reference):
        nn.init.constant_(layer.weight, 1.5)
        nn.init.constant_(layer.bias, -0.5)
    for seed in range(3):
        x = videos(seed) * torch.arange(1, STEPS + 1)[None, :, None]
        expected = torch.stack([reference(step) for step in x.unbind(1)], dim=1)
        found = norm(x)
        torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-5)
        found.pow(3).mean().backward()
        expected.pow(3).mean().backward()
    torch.testing.assert_close(norm.weight.grad, reference.weight.grad, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(norm.state_dict(), reference.state_dict(), rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(norm.eval()(x)[:, 3], reference.eval()(x[:, 3]))


@pytest.mark.parametrize("pool", ["max", "mean"])
def test_pooling_the_whole_video_is_blind_to_order(pool: str) -> None:
    model = seeded(Pooled, WIDTH, CLASSES, pool=pool).eval()
    x = videos()
    torch.testing.assert_close(model(x[:, torch.randperm(STEPS)]), model(x))
    reference = x.max(1).values if pool == "max" else x.mean(1)
    assert torch.allclose(pool_steps(x, pool), reference)


def test_average_score_is_the_mean_probability_of_steps_and_streams() -> None:
    model = seeded(AvgScore, WIDTH, 4, CLASSES).eval()
    x = videos()
    probabilities = []
    for part, norm, head in zip((x[..., :4], x[..., 4:]), model.norms, model.heads, strict=True):
        for t in range(STEPS):
            z = part[:, t] / (1 + norm.eps) ** 0.5
            probabilities.append(torch.softmax(z @ head.weight.T + head.bias, dim=1))
    torch.testing.assert_close(model(x).exp(), torch.stack(probabilities).mean(0))


def test_average_score_trains_with_the_loss_per_frame() -> None:
    model = seeded(AvgScore, WIDTH, 4, CLASSES)
    x, y = videos(), torch.randint(0, CLASSES, (BATCH,))
    losses = [
        F.cross_entropy(head(over_batch(part[:, t])), y)
        for part, head in zip((x[..., :4], x[..., 4:]), model.heads, strict=True)
        for t in range(STEPS)
    ]
    torch.testing.assert_close(
        F.nll_loss(model(x), y), torch.stack(losses).mean(), atol=1e-5, rtol=1e-5
    )


@pytest.mark.parametrize("spatial", [0, WIDTH])
def test_average_score_of_a_single_stream(spatial: int) -> None:
    model = AvgScore(WIDTH, spatial, CLASSES)
    assert len(model.heads) == 1
    assert model(videos()).shape == (BATCH, CLASSES)


def test_temporal_inception_has_the_papers_shapes() -> None:
    model = seeded(TemporalInception, 12, CLASSES)
    image = torch.randn(2, 1, 12, 25)
    shapes = []
    for module in list(model.convolutions)[:4]:
        assert isinstance(module, InceptionModule)
        image = module(image)
        shapes.append(tuple(image.shape[1:]))
    assert shapes == [(2, 12, 12), (4, 12, 6), (8, 12, 3), (16, 12, 1)]
    assert model(videos(width=12)).shape == (BATCH, CLASSES)


def test_temporal_inception_parameter_count_by_hand() -> None:
    """Each branch has outputs x (inputs x width + 1) weights and a batch norm of 2 x outputs."""
    modules = sum(
        outputs * (inputs * width + 1) + 2 * outputs
        for inputs, outputs in ((1, 1), (2, 2), (4, 4), (8, 8))
        for width in (5, 7)
    )
    reductions = sum(o * (i + 1) + 2 * o for i, o in ((16, 4), (4, 2), (2, 1)))
    classifier = 4096 * 1024 + 1024 + 2 * 1024 + 1024 * 101 + 101
    model = TemporalInception(4096, 101)
    assert sum(p.numel() for p in model.parameters()) == modules + reductions + classifier
    assert (modules, reductions) == (18 + 60 + 216 + 816, 76 + 14 + 5)


def test_temporal_convnet_parameter_count_by_hand() -> None:
    model = TemporalConvNet(4096, 101)
    expected = 4 * (5 + 1 + 2) + 4096 * 1024 + 1024 + 2 * 1024 + 1024 * 101 + 101
    assert sum(p.numel() for p in model.parameters()) == expected


@pytest.mark.parametrize("network", [TemporalConvNet, TemporalInception])
def test_kernels_are_shared_by_all_feature_rows(network: type[nn.Module]) -> None:
    """Exchanging two feature rows exchanges the same two rows before the classifier."""
    model = seeded(network, WIDTH, CLASSES, dropout=0.0)
    image = videos().transpose(1, 2).unsqueeze(1)
    order = torch.randperm(WIDTH)
    rows = model.convolutions(image)
    assert rows.std() > 0
    torch.testing.assert_close(rows[:, :, order], model.convolutions(image[:, :, order]))


@pytest.mark.parametrize("network", [TemporalConvNet, TemporalInception])
def test_spatial_dropout_blanks_whole_videos_while_training(network: type[nn.Module]) -> None:
    image = torch.randn(200, 1, WIDTH, STEPS, generator=torch.Generator().manual_seed(0))

    def blank(dropout: float) -> float:
        model = seeded(network, WIDTH, CLASSES, dropout=dropout)
        return float((model.convolutions(image) == 0).flatten(1).all(1).double().mean())

    by_itself = blank(0.0)  # ReLU leaves nothing of some
    assert by_itself < 0.6
    assert blank(0.5) == pytest.approx(0.5 + 0.5 * by_itself, abs=0.12)
    assert network(WIDTH, CLASSES).convolutions[-1].p == 0.2, "as in the authors' scripts"


@pytest.mark.parametrize("network", [TemporalConvNet, TemporalInception])
def test_too_few_steps_for_four_poolings_is_an_error(network: type[nn.Module]) -> None:
    with pytest.raises(ValueError, match="at least 24"):
        network(WIDTH, CLASSES, steps=23)


def test_order_of_the_whole_video_reaches_the_convolutions() -> None:
    model = seeded(TemporalInception, WIDTH, CLASSES, dropout=0.0)
    x = videos()
    assert not torch.allclose(model(x), model(x.flip(1)), atol=1e-5)


PREDICTIONS = """\
BoxingSpeedBag/v_BoxingSpeedBag_g05_c03.avi Hammering 0.2717
BoxingSpeedBag/v_BoxingSpeedBag_g05_c03.avi BoxingSpeedBag 0.0353
BoxingSpeedBag/v_BoxingSpeedBag_g05_c03.avi HeadMassage 0.0012
BoxingSpeedBag/v_BoxingSpeedBag_g04_c02.avi BoxingSpeedBag 0.7062
BoxingSpeedBag/v_BoxingSpeedBag_g04_c02.avi PlayingDaf 0.0000176
BoxingSpeedBag/v_BoxingSpeedBag_g04_c02.avi BoxingPunchingBag 0.0000053
BoxingSpeedBag/v_BoxingSpeedBag_g07_c02.avi PullUps 0.1994
BoxingSpeedBag/v_BoxingSpeedBag_g07_c02.avi Hammering 0.0205
BoxingSpeedBag/v_BoxingSpeedBag_g07_c02.avi BoxingSpeedBag 0.0108
Surfing/v_Surfing_g01_c04.avi Surfing 0.6937
Surfing/v_Surfing_g01_c04.avi Skijet 0.0000079
Surfing/v_Surfing_g01_c04.avi CliffDiving 0.0000031
FloorGymnastics/v_FloorGymnastics_g06_c05.avi ParallelBars 0.4665
FloorGymnastics/v_FloorGymnastics_g06_c05.avi BalanceBeam 0.0398
FloorGymnastics/v_FloorGymnastics_g06_c05.avi Fencing 0.0037
FloorGymnastics/v_FloorGymnastics_g04_c03.avi BalanceBeam 0.8520
FloorGymnastics/v_FloorGymnastics_g04_c03.avi FloorGymnastics 0.0146
FloorGymnastics/v_FloorGymnastics_g04_c03.avi PommelHorse 0.0002
Surfing/v_Surfing_g02_c06.avi Surfing 0.8303
Surfing/v_Surfing_g02_c06.avi CliffDiving 0.0000211
"""


def test_top_1_and_top_3_on_a_piece_of_the_authors_predictions() -> None:
    """Seven videos of the authors' three-best lists: 3 are right at once, 6 within three."""
    rows = [line.split() for line in PREDICTIONS.splitlines()]
    names = list(dict.fromkeys(row[0] for row in rows))
    classes = sorted({row[1] for row in rows})
    scores = torch.zeros(len(names), len(classes))
    for name, predicted, score in rows:
        scores[names.index(name), classes.index(predicted)] = float(score)
    y = torch.tensor([classes.index(name.split("/")[0]) for name in names])
    for k, right in ((1, 3), (3, 6)):
        meter = MulticlassAccuracy(num_classes=len(classes), average="micro", top_k=k)
        assert meter(scores, y).item() == pytest.approx(right / 7)
