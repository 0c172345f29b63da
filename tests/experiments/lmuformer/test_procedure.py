import pytest
import torch
from torch.nn import functional as F
from torchmetrics.classification import MulticlassAccuracy

from experiments.lmuformer import procedure
from experiments.lmuformer.data import Sequences, Waveforms, chirp_order
from experiments.lmuformer.model import LMUFormer
from experiments.lmuformer.procedure import (
    ClassBinaryCrossEntropy,
    KeywordFit,
    jittered,
    mixed,
    prefix_figures,
)
from experiments.lmuformer.spiking import SpikingLMUFormer
from harness.loading.splits import Tensors
from harness.procedures.base import Trial
from harness.seeding import seed_all


def keyword_fit(**settings):
    base = {
        "loss": ClassBinaryCrossEntropy(),
        "metrics": {"accuracy": MulticlassAccuracy(2, average="micro")},
    }
    return KeywordFit(**(base | settings))


def run(data, tmp_path, seed=0, **settings):
    def model():
        return LMUFormer(16, 40, 2, width=16)

    seed_all(seed)
    trial = Trial(seed, data, model, torch.device("cpu"), tmp_path)
    adam = lambda parameters: torch.optim.Adam(parameters, lr=1e-2)  # noqa: E731
    return keyword_fit(optimizer=adam, batch_size=32, **settings).run(trial)


def test_the_loss_is_binary_cross_entropy_of_every_class():
    logits = torch.randn(5, 3, dtype=torch.float64)
    y = torch.tensor([0, 2, 1, 1, 0])
    p = logits.sigmoid()
    truth = torch.eye(3, dtype=torch.float64)[y]
    expected = -(truth * p.log() + (1 - truth) * (1 - p).log()).mean()
    torch.testing.assert_close(ClassBinaryCrossEntropy()(logits, y), expected)
    torch.testing.assert_close(ClassBinaryCrossEntropy()(logits, truth), expected)


def test_training_measures_what_it_declares_and_learns_the_order(tmp_path):
    data = chirp_order(train=500, test=200, frames=40, strength=8.0)
    outcome = run(data, tmp_path, epochs=7, prefixes=True)
    declared = KeywordFit.produces({"metrics": {"accuracy": None}, "prefixes": True})
    assert set(outcome.metrics) | set(outcome.series) == declared
    assert outcome.metrics["accuracy"] > 0.8
    assert outcome.metrics["accuracy_at_100"] == pytest.approx(outcome.metrics["accuracy"])
    assert outcome.metrics["accuracy_at_28"] < outcome.metrics["accuracy"] - 0.1


def test_on_shuffled_labels_training_ends_at_chance(tmp_path):
    data = chirp_order(train=300, test=1000, frames=40, strength=8.0, shuffle_labels=True)
    assert 0.4 < run(data, tmp_path, epochs=5).metrics["accuracy"] < 0.6


def test_prefix_figures_look_at_each_sequences_own_length():
    right = torch.zeros(4, 10, dtype=torch.bool)
    right[0, 2:] = right[1, 4:] = right[2, 9:] = True
    figures = prefix_figures(right, torch.tensor([10, 5, 10, 10]))
    # after 28 %: frames 3, 2, 3, 3 -> only the first is right; at the end all but the last
    assert figures.metrics["accuracy_at_28"] == 0.25
    assert figures.metrics["accuracy_at_68"] == 0.25
    assert figures.metrics["accuracy_at_100"] == 0.75
    assert figures.metrics["shortening"] == pytest.approx(0.05)
    assert figures.series["prefix_accuracy"].y[-1] == 0.75


def test_shortening_is_against_the_accuracy_on_whole_sequences():
    """However right the network was before."""
    right = torch.zeros(200, 10, dtype=torch.bool)
    right[:100, 2:] = True
    right[100:, 5] = True
    figures = prefix_figures(right, torch.full((200,), 10))
    assert figures.metrics["accuracy_at_100"] == 0.5
    assert max(figures.series["prefix_accuracy"].y) == 1
    assert figures.metrics["shortening"] == pytest.approx(0.75)  # a quarter is the third frame


def test_mixed_waveforms_and_labels_are_mixed_alike():
    generator = torch.Generator().manual_seed(0)
    y = torch.eye(200)
    x = torch.eye(200, 400) * 3
    found_x, found_y = mixed(x, y, 0.6, generator)
    centred = x - x.mean(-1, keepdim=True)
    torch.testing.assert_close(found_x, found_y @ centred)
    torch.testing.assert_close(found_y.sum(1), torch.ones(200))
    own = found_y.diagonal()
    together = own < 1
    assert 0.5 < float(together.float().mean()) < 0.7
    assert float(own[together].mean()) == pytest.approx(0.5, abs=0.05)
    assert own[together].std() == pytest.approx((1 / 84) ** 0.5, rel=0.3)  # of Beta(10, 10)


def test_a_jittered_sequence_is_rolled_and_a_little_louder():
    generator = torch.Generator().manual_seed(0)
    x = torch.zeros(300, 40, 2)
    x[:, 20] = 100
    found = jittered(x, generator)
    shift = found[..., 0].argmax(1) - 20
    assert shift.min() == -10 and shift.max() == 9
    rest = found[found < 50]
    assert rest.min() >= 0 and rest.max() < 0.1
    spread = found.masked_fill(found > 50, 0).amax(dim=(1, 2))
    assert spread.std() > 0.02  # another loudness for each


def test_waveforms_become_scaled_features_padded_by_silence():
    fit = keyword_fit()
    found = fit.spectrogram(torch.randn(2, 16000))
    assert found.shape == (2, 128, 128)
    assert found[:, 98:].unique().tolist() == pytest.approx([6.845978 / (2 * 5.5654526)])
    assert found[:, :98].std() > 0.05
    frames = torch.randn(2, 7, 5)
    assert fit.spectrogram(frames) is frames


class At:
    def __init__(self, seed):
        self.generator = torch.Generator().manual_seed(seed)


def test_training_batches_are_augmented_and_the_same_again():
    batch = {"x": torch.randn(6, 16000), "y": torch.arange(6)}
    fit = keyword_fit(mixup=0.6, mask=48, jitter=True, classes=35)
    first, again, other = (fit.augment(batch, At(seed)) for seed in (0, 0, 1))
    assert first["x"].shape == (6, 128, 128) and first["y"].shape == (6, 35)
    assert torch.equal(first["x"], again["x"]) and not torch.equal(first["x"], other["x"])
    plain = keyword_fit().augment(batch, At(0))
    assert torch.equal(plain["x"], fit.spectrogram(batch["x"]))
    assert torch.equal(plain["y"], batch["y"])


def test_masks_are_silence_as_the_padding_is():
    batch = {"x": torch.randn(40, 16000), "y": torch.zeros(40, dtype=torch.long)}
    masked = keyword_fit(mask=48).augment(batch, At(0))["x"]
    silent = torch.isclose(masked, torch.tensor(procedure.SILENCE))
    blank_bins = silent[:, :98].all(1).sum(1)
    assert 10 < float(blank_bins.float().mean()) < 35
    assert float(silent.all(2)[:, :98].float().sum(1).mean()) > 5


def test_training_hears_augmented_waveforms_and_evaluation_plain_ones(tmp_path):
    x, y = torch.randn(4, 16000), torch.tensor([0, 1, 1, 0])
    split = Tensors(x=x, y=y)
    data = Sequences(split, split, lengths=torch.full((4,), 128))
    heard = {True: [], False: []}

    class Listening(torch.nn.Linear):
        def forward(self, frames):
            heard[self.training].append(frames)
            return F.linear(frames.mean(1), self.weight, self.bias)

    trial = Trial(0, data, lambda: Listening(128, 2), torch.device("cpu"), tmp_path)
    fit = keyword_fit(mixup=0.6, mask=48, jitter=True, classes=2, epochs=2)
    fit.run(trial)
    plain = fit.spectrogram(x)
    assert all(torch.equal(frames, plain) for frames in heard[False])
    first, second = heard[True]
    assert first.shape == plain.shape and not torch.allclose(first.mean(), second.mean(), atol=1e-4)
    assert not same_rows(first, plain) and not same_rows(first, second)


@pytest.mark.parametrize("kind", [LMUFormer, SpikingLMUFormer])
def test_the_authors_training_takes_a_few_steps(kind, tmp_path):
    """Waveforms, all augmentation, prefixes: as the full tier has it, but for the size."""
    split = Waveforms(
        torch.randint(-3000, 3000, (12, 16000), dtype=torch.int16), torch.arange(12) % 2
    )
    data = Sequences(split, split, split, lengths=torch.full((12,), 128))
    trial = Trial(0, data, lambda: kind(128, 128, 2, width=8), torch.device("cpu"), tmp_path)
    settings = {"mixup": 0.6, "mask": 48, "jitter": True, "prefixes": True, "classes": 2}
    outcome = keyword_fit(epochs=2, batch_size=4, **settings).run(trial)
    assert outcome.metrics["accuracy_at_100"] == pytest.approx(outcome.metrics["accuracy"])
    assert 0 < outcome.metrics["train_loss"] < 2


def same_rows(a, b):
    return any(torch.equal(x, y) for x in a for y in b)
