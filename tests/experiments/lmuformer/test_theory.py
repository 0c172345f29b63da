from pathlib import Path

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from baselines.lmu import LegendreMemory
from baselines.transformer import SpectrogramTransformer
from experiments.lmuformer.model import ConvEmbedding, LMUFormer, running_mean
from experiments.lmuformer.streaming import CentredConvolution, Stream, StreamingEmbedding
from experiments.lmuformer.theory import (
    Counts,
    DelayLine,
    Forms,
    Streaming,
    fourier_multiplications,
    multiplications,
    settle,
)
from harness.procedures.base import Trial


def trial(model=None, seed=0):
    torch.manual_seed(seed)
    return Trial(seed, None, model, torch.device("cpu"), Path("."))


def test_both_forms_of_the_memory_agree_unless_the_signal_wraps_around():
    assert Forms(order=64, steps=64).run(trial()).metrics["form_error"] < 1e-5
    assert Forms(order=64, steps=64, padding=0).run(trial()).metrics["form_error"] > 0.1


def test_the_memory_loses_less_the_larger_it_is():
    outcome = DelayLine().run(trial())
    errors = outcome.series["delay_error_over_order"].y
    assert errors == sorted(errors, reverse=True) and errors[0] > 0.2 > 0.01 > errors[-1]
    assert outcome.metrics["delay_error"] == errors[-1]
    assert DelayLine(mirrored=True).run(trial()).metrics["delay_error"] > 0.5


def lmuformer(bins, width, classes, frames):
    """Multiplications of LMUFormer by hand, frame by frame."""
    embedding = 3 * bins * width + 4 * 3 * width * width
    lmu = width + 2 * width * width + width * width
    mixer = 8 * width * width
    return frames * (embedding + lmu + mixer + width * classes)


def test_multiplications_of_lmuformer_are_those_counted_by_hand():
    memory = LegendreMemory(256, 128, 128)
    by_hand = lmuformer(128, 256, 35, 128)
    assert by_hand == 206_700_544
    counted = multiplications(LMUFormer(128, 128, 35), torch.zeros(1, 128, 128))
    assert counted == by_hand + fourier_multiplications(memory)
    assert fourier_multiplications(memory) < 0.004 * by_hand


def test_convolutions_alone_are_a_sixty_fifth_of_ast_without_its_attention():
    """Without these, 65 comes out, which is the abstract's ratio."""
    convolutions = lmuformer(128, 256, 35, 128) - 128 * (256 + 2 * 256 * 256 + 256 * 35)
    ast = 12 * 146 * (4 * 768 * 768 + 2 * 768 * 3072) + 144 * 256 * 768
    assert ast / convolutions == pytest.approx(65.85, abs=0.01)


def test_multiplications_of_a_transformer_layer_are_those_counted_by_hand():
    model = SpectrogramTransformer(8, 6, 3, 16, 2, 4, 32, (1, 8), (1, 8), class_tokens=1)
    tokens, width = 7, 16
    layer = tokens * (4 * width * width + 2 * width * 32) + 2 * tokens * tokens * width
    assert multiplications(model, torch.zeros(1, 6, 8)) == 2 * layer + 6 * 8 * 16 + 16 * 3


def test_counts_are_exact_figures():
    outcome = Counts(frames=20, features=6).run(trial(lambda: LMUFormer(6, 20, 3, width=8)))
    assert set(outcome.metrics) == Counts.produces({})
    assert all(figure.exact for figure in outcome.metrics.values())


def test_a_centred_convolution_answers_one_frame_later():
    torch.manual_seed(0)
    convolution = nn.Conv1d(3, 2, 3, padding=1)
    x = torch.randn(4, 3, 5)
    stage = CentredConvolution(convolution, nn.ReLU(), batch=4)
    first, *later = (stage.push(x[..., t]) for t in range(5))
    assert first is None
    found = torch.stack([*later, stage.finish()], dim=-1)
    torch.testing.assert_close(found, F.relu(convolution(x)), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("frames", [1, 3, 5, 6, 17])
def test_the_embedding_can_be_streamed_at_any_length(frames):
    torch.manual_seed(0)
    embedding = ConvEmbedding(6, 8)
    embedding(torch.randn(8, 6, 20))  # statistics other than 0 and 1
    embedding.eval()
    x = torch.randn(2, 6, frames)
    streaming = StreamingEmbedding(embedding, 2)
    outputs = [streaming.push(now) for now in x.unbind(-1)]
    assert [out is None for out in outputs] == [t < 5 for t in range(frames)]
    found = [out for out in outputs if out is not None] + streaming.finish()
    torch.testing.assert_close(torch.stack(found, -1), embedding(x), rtol=1e-4, atol=1e-5)


def test_scores_arrive_five_frames_later_and_are_those_of_the_whole():
    torch.manual_seed(0)
    model = LMUFormer(6, 20, 3, width=8)
    settle(model, 6, 20)
    x = torch.randn(2, 20, 6)
    stream = Stream(model, 2)
    pushed = [stream.push(now) for now in x.unbind(1)]
    found = [logits for logits in pushed if logits is not None] + stream.finish()
    with torch.no_grad():
        expected = model.head(running_mean(model.features(x)))
    assert len(pushed) - sum(p is not None for p in pushed) == ConvEmbedding.LOOK_AHEAD
    torch.testing.assert_close(torch.stack(found, 1), expected, rtol=1e-4, atol=1e-5)


def test_streaming_needs_the_memory():
    def small():
        model = LMUFormer(6, 20, 3, width=8)
        for gate in (model.frames.lmu.write, model.frames.lmu.read):
            nn.init.uniform_(gate.weight, 0, 1)
            nn.init.constant_(gate.bias, 5)
        return model

    kept = Streaming(20, 6).run(trial(small)).metrics
    emptied = Streaming(20, 6, forget=True).run(trial(small)).metrics
    assert set(kept) == Streaming.produces({})
    assert kept["streaming_error"] < 1e-5 < 1e-3 < emptied["streaming_error"]
    assert kept["look_ahead"].value == 5
