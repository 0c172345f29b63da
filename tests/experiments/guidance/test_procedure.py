from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import nn
from torchmetrics.classification import MulticlassAccuracy

from baselines.metrics import CrossEntropy
from baselines.vision import MLP, ResNet
from experiments.guidance.alignment import cka, gram, recorded
from experiments.guidance.consistency import Consistency, kappa
from experiments.guidance.data import parity, translation
from experiments.guidance.model import PAD, ParityRNN, ParityTransformer
from experiments.guidance.procedure import Guided, OneHotBCE, distillation, inputs
from harness.procedures.base import Trial
from harness.procedures.recipe import At

CPU = torch.device("cpu")
NAMES = ("guide", "other", "guide_epochs", "guide_rate", "loss", "batch_size", "augments")


def guide():
    return ResNet(1, 10, 4, (1, 1), stem="small")


def target():
    return MLP(256, [24, 24, 24], 10, batch_norm=True)


@pytest.fixture(scope="module")
def data():
    return translation(0, train=256, val=64, test=128, noise=0.2)


def trial(data, tmp_path=Path("."), seed=0):
    config = {"procedure": {"init_args": dict.fromkeys(NAMES)}, "model": {}}
    return Trial(seed, data, target, CPU, tmp_path, config=config)


def recipe(of=Guided, **settings):
    known = {"epochs": 2, "batch_size": 64, "drop_last": True, "guide": guide, "guide_epochs": 1}
    return of(
        loss=nn.CrossEntropyLoss(),
        metrics={
            "accuracy": MulticlassAccuracy(10, average="micro", validate_args=False),
            "loss": CrossEntropy(),
        },
        monitor="val_loss",
        **{"select": "best", **known, **settings},
    )


def figures(outcome):
    return {name: float(getattr(v, "value", v)) for name, v in outcome.metrics.items()}


def at(step=0):
    return At(0, step, 0, 10, 10, CPU)


def batch_of(data, rows=48):
    return data.train[torch.randperm(256, generator=torch.Generator().manual_seed(3))[:rows]]


def loss_of(prepared, data, model, step=0, rows=48):
    batch = batch_of(data, rows)
    return prepared.training_loss(model.train(), batch, at(step))


def test_the_loss_is_the_task_and_one_minus_cka_of_every_pair(data):
    """All from the definition, with the guide run on the batch itself."""
    model = MLP(256, [24, 24, 24], 10)  # 3 layers below the logits; the guide has 7 and a pool
    prepared, accompanied, _ = recipe(kind="untrained", alpha=2.0)._prepared(
        Trial(0, data, lambda: model, CPU, Path("."))
    )
    batch = batch_of(accompanied)
    network = recipe(kind="untrained")._guide(trial(data))
    _, theirs = recorded(network, batch["x"])
    output, ours = recorded(model, batch["x"])
    expected = nn.functional.cross_entropy(output, batch["y"])
    step = (len(ours) - 1) / (len(theirs) - 1)
    for place in range(len(ours)):
        last = max(i for i in range(len(theirs)) if round(i * step) == place)
        expected = expected + 2 * (1 - cka(gram(ours[place]), gram(theirs[last])))
    found = prepared.training_loss(model, batch, at())
    assert len(theirs) > len(ours) == 3
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("kind", ["untrained", "shuffled"])
def test_a_live_guide_and_one_run_beforehand_are_the_same(data, kind):
    losses = []
    for live in (False, True):
        prepared, accompanied, _ = recipe(kind=kind, live=live)._prepared(trial(data))
        torch.manual_seed(0)
        losses.append(float(loss_of(prepared, accompanied, target()).detach()))
    assert losses[0] == pytest.approx(losses[1], rel=1e-4)


def test_kinds_of_guides_see_and_are_different_things(data):
    found = {}
    for kind in ("none", "untrained", "trained", "shuffled", "noise"):
        prepared, accompanied, _ = recipe(kind=kind)._prepared(trial(data))
        torch.manual_seed(0)
        found[kind] = round(float(loss_of(prepared, accompanied, target()).detach()), 4)
    assert len(set(found.values())) == 5
    assert found["none"] == min(found.values())
    shown = recipe(kind="shuffled")._shown(data.train.columns["x"][:4], torch.Generator())
    straight = data.train.columns["x"][:4]
    assert torch.equal(shown.flatten(1).sort()[0], straight.flatten(1).sort()[0])
    assert not torch.equal(shown, straight)
    tokens = recipe(kind="noise")._shown(torch.randint(0, 5, (8, 30)), torch.Generator())
    assert tokens.shape == (8, 30) and int(tokens.min()) >= 0 and int(tokens.max()) < 5


def test_noise_has_the_lengths_of_the_strings_and_none_of_their_bits():
    strings = parity(0, train=600, val=8, test=8, longest=12)
    shown = recipe(kind="noise", padding=PAD)._shown(strings.train.columns["x"], torch.Generator())
    true = strings.train.columns["x"]
    assert torch.equal(shown == PAD, true == PAD)
    bits = true != PAD
    assert abs(float((shown == true)[bits].float().mean()) - 0.5) < 0.05


def test_strings_are_recorded_batch_by_batch_whatever_the_longest_of_each_is():
    strings = parity(0, train=300, val=8, test=8, shortest=2, longest=40)
    strings.train.columns["x"][256:, 5:] = PAD
    prepared = recipe(kind="untrained", guide=lambda: ParityRNN(3, 8, 1))
    told = replace(trial(strings), model=lambda: ParityTransformer(8, 2, 2, hidden=16))
    kernels = prepared._prepared(told)[1].train.kernels
    assert kernels.shape[1:] == (300, 300) and bool(kernels.isfinite().all())


def test_after_the_first_steps_the_target_is_by_itself(data):
    losses = {}
    for steps in (None, 3):
        prepared, accompanied, _ = recipe(kind="untrained", guided_steps=steps)._prepared(
            trial(data)
        )
        for step in (2, 3):
            torch.manual_seed(0)
            model = target()
            losses[steps, step] = float(loss_of(prepared, accompanied, model, step).detach())
    assert losses[3, 2] == losses[None, 2] == losses[None, 3] > losses[3, 3]


def test_the_guide_stays_as_it_is_and_the_targets_weights_are_those_of_every_arm(data, tmp_path):
    class Watched(Guided):
        starts: list = []

        def training_loss(self, model, batch, at):
            if at.step == 0:
                self.starts.append([p.detach().clone() for p in model.parameters()])
            return super().training_loss(model, batch, at)

    outcomes = []
    for kind in ("none", "untrained"):
        made = recipe(Watched, kind=kind, live=kind != "none", rates=[1e-3, 1e-2])
        outcomes.append(figures(made.run(trial(data, tmp_path))))
    assert len(Watched.starts) == 4
    for other in Watched.starts[1:]:
        assert all(torch.equal(a, b) for a, b in zip(Watched.starts[0], other, strict=True))
    one, two = (recipe(kind="untrained")._guide(trial(data)) for _ in range(2))
    assert all(torch.equal(a, b) for a, b in zip(one.parameters(), two.parameters(), strict=True))
    assert not any(p.requires_grad for p in one.parameters()) and not one.training
    assert "alignment" in outcomes[1] and "alignment" not in outcomes[0]


def test_guidance_aligns_and_the_task_is_learned(data, tmp_path):
    settings = {"epochs": 20, "rates": [1e-2], "select": "last"}
    guided = figures(recipe(kind="untrained", **settings).run(trial(data, tmp_path)))
    free = recipe(kind="untrained", alpha=0.0, **settings).run(trial(data, tmp_path / "free"))
    assert guided["alignment"] > figures(free)["alignment"] + 0.1
    assert guided["train_accuracy"] > 0.5
    assert guided["gap"] == pytest.approx(guided["train_accuracy"] - guided["accuracy"], abs=1e-6)


def test_shuffled_labels_leave_chance(tmp_path):
    shuffled = translation(0, train=256, val=256, test=1000, shuffle_labels=True)
    found = recipe(kind="trained", epochs=4, rates=[1e-2]).run(trial(shuffled, tmp_path))
    assert figures(found)["accuracy"] < 0.15 and figures(found)["guide_accuracy"] < 0.15


def test_the_rate_is_chosen_by_validation_loss(data, tmp_path):
    made = recipe(kind="none", rates=[1e-2, 1e-6], epochs=10)
    shallow = replace(trial(data, tmp_path), model=lambda: MLP(256, [32], 10))
    found = figures(made.run(shallow))
    assert found["rate"] == 1e-2


def test_a_trained_guide_is_trained_and_distilled(data, tmp_path):
    made = recipe(kind="trained", distil=True, guide_epochs=10, guide_rate=1e-2)
    prepared, accompanied, further = made._prepared(trial(data, tmp_path))
    assert further["guide_accuracy"] > 0.2
    batch = batch_of(accompanied)
    assert batch["scores"].shape == (48, 10) and "kernels" not in batch
    torch.manual_seed(0)
    model = target()
    plain = float(nn.functional.cross_entropy(model.train()(batch["x"]), batch["y"]).detach())
    assert float(loss_of(prepared, accompanied, model).detach()) > plain
    live = recipe(kind="trained", distil=True, guide_epochs=10, guide_rate=1e-2, live=True)
    again, same, _ = live._prepared(trial(data, tmp_path))
    torch.manual_seed(0)
    fresh = [target(), target()]
    fresh[1].load_state_dict(fresh[0].state_dict())
    torch.testing.assert_close(
        loss_of(again, same, fresh[0]), loss_of(prepared, accompanied, fresh[1])
    )


def test_distillation_is_the_divergence_of_softened_answers():
    ours, theirs = torch.randn(5, 4), torch.randn(5, 4)
    p, q = (z.div(3).softmax(1) for z in (theirs, ours))
    expected = 9 * (p * (p / q).log()).sum(1).mean()
    torch.testing.assert_close(distillation(ours, theirs, 3.0), expected)


def test_every_class_has_a_binary_loss_of_its_own():
    logits = torch.tensor([[2.0, -1.0]])
    expected = -(torch.tensor(2.0).sigmoid().log() + torch.tensor(1.0).sigmoid().log()) / 2
    torch.testing.assert_close(OneHotBCE()(logits, torch.tensor([0])), expected)


def test_contradicting_settings_are_refused():
    for wrong, message in [
        ({"guide": None, "kind": "trained"}, "has to be named"),
        ({"kind": "untrained", "distil": True}, "only a trained guide"),
        ({"kind": "untrained", "augments": True}, "live"),
    ]:
        with pytest.raises(ValueError, match=message):
            recipe(**wrong)


def test_images_are_changed_in_training_alone(data):
    batch = batch_of(data)
    changed = recipe(augments=True).augment(batch, at())
    assert changed["x"].shape == batch["x"].shape and not torch.equal(changed["x"], batch["x"])
    assert torch.equal(changed["y"], batch["y"])
    assert recipe().augment(batch, at()) is batch
    assert torch.equal(torch.cat(list(inputs(data.train, CPU))), data.train.columns["x"])


def test_kappa_is_cohens():
    from sklearn.metrics import cohen_kappa_score

    one, other = torch.rand(200) < 0.7, torch.rand(200) < 0.5
    other[:80] = one[:80]
    assert kappa(one, other) == pytest.approx(cohen_kappa_score(one, other))
    assert kappa(one, one) == pytest.approx(1) and kappa(torch.ones(5), torch.ones(5)) == 0


def test_targets_are_compared_with_their_own_guide_and_the_others(data, tmp_path):
    made = recipe(Consistency, other=target, kind="trained", epochs=8, guide_epochs=8)
    found = figures(made.run(trial(data, tmp_path)))
    assert set(found) == Consistency.produces({})
    assert found["kappa_gain"] == pytest.approx(found["own_kappa"] - found["other_kappa"])
    assert found["kappa_gain"] != 0
