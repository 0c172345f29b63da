"""The hooks of a recipe are called where they say, and settings that contradict are refused."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor, nn

from harness.loading.splits import Splits, Tensors
from harness.procedures.base import Separately
from harness.procedures.fit import Fit
from harness.procedures.recipe import Recipe
from harness.procedures.training import train, train_together
from harness.specs import validate


def weights(trained) -> Tensor:
    return nn.utils.parameters_to_vector(trained.model.parameters()).detach()


def test_one_seed_by_its_settings_alone(trial, splits, settings, net) -> None:
    """Named trainings of a trial differ, and what happened before them does not matter."""
    recipe = Recipe(**settings)
    first = train(net, splits, recipe, trial("a"))
    torch.rand(7)
    assert torch.equal(weights(first), weights(train(net, splits, recipe, trial("b"))))
    draws = torch.rand(3)
    teacher = train(net, splits, recipe, trial("c"), name="teacher")
    assert not torch.equal(weights(first), weights(teacher))
    train(net, splits, recipe, trial("d"))
    assert torch.equal(draws, torch.rand(3)), "generators are seeded after training, too"


def test_steps_instead_of_epochs(trial, splits, settings, net) -> None:
    whole = train(net, splits, Recipe(**settings), trial("a"))  # 3 steps in each of 4 epochs
    by_steps = settings | {"epochs": None, "steps": 12}
    assert train(net, splits, Recipe(**by_steps), trial("b")).curves == whole.curves
    found = train(net, splits, Recipe(**by_steps | {"steps": 7}), trial("c"))
    assert [row["epoch"] for row in found.curves] == [1, 2, pytest.approx(7 / 3)]
    assert found.samples == 2 * 90 + 32
    series = found.series()["train_loss"]
    assert series.over == "epoch" and series.x[-1] == pytest.approx(7 / 3)


def test_evaluations_by_steps(trial, splits, settings, net) -> None:
    losses: list[float] = []

    class Kept(Recipe):
        def training_loss(self, model, batch, at):
            loss = super().training_loss(model, batch, at)
            losses.append(float(loss.detach()))
            return loss

    found = train(net, splits, Kept(**settings, eval_steps=5), trial())
    series = found.series()["train_loss"]
    assert (series.over, series.x) == ("step", [5, 10, 12])
    sizes = [32, 32, 26] * 4
    for (a, b), mean in zip(((0, 5), (5, 10), (10, 12)), series.y, strict=True):
        total = sum(loss * n for loss, n in zip(losses[a:b], sizes[a:b], strict=True))
        assert mean == pytest.approx(total / sum(sizes[a:b]))
    by_epochs = train(net, splits, Recipe(**settings), trial("epochs"))
    assert torch.equal(weights(found), weights(by_epochs)), "the steps are the same"


def test_hooks_know_where_training_is(trial, splits, settings, net) -> None:
    seen: list[tuple[int, ...]] = []

    class Kept(Recipe):
        def training_loss(self, model, batch, at):
            seen.append((at.epoch, at.step, at.epochs, at.steps))
            return super().training_loss(model, batch, at)

    train(net, splits, Kept(**settings), trial())
    assert seen == [(step // 3, step, 4, 12) for step in range(12)]


class Augmented(Recipe):
    def augment(self, batch, at):
        noise = torch.randn(batch["x"].shape, generator=at.generator)
        return batch | {"x": batch["x"] + noise}


class Remembering(Augmented):
    def augment(self, batch, at):
        changed = super().augment(batch, at)
        self.seen = [*getattr(self, "seen", []), changed["x"] - batch["x"]]
        return changed


def test_augmentation_depends_on_seed_epoch_and_step(trial, splits, settings, net) -> None:
    recipe, again, other = (Remembering(**settings) for _ in range(3))
    one = train(net, splits, recipe, trial("a"))
    assert torch.equal(weights(one), weights(train(net, splits, again, trial("b"))))
    train(net, splits, other, trial("c", seed=4))
    kinds = [noise[:26] for noise in (*recipe.seen, *other.seen)]
    assert len({float(noise.sum()) for noise in kinds}) == 24, "no noise twice"
    assert not torch.equal(
        weights(one), weights(train(net, splits, Recipe(**settings), trial("d")))
    )


class Grouped(Recipe):
    """The first layer is not trained; a group of its own."""

    def parameter_groups(self, model):
        first = list(model.layers[0].parameters())
        rest = [p for p in model.parameters() if all(p is not other for other in first)]
        return [{"params": first, "lr": 0.0}, {"params": rest}]


def test_parameter_groups_have_settings_of_their_own(trial, splits, settings, net) -> None:
    model = net()
    before = [p.detach().clone() for p in model.parameters()]
    found = train(model, splits, Grouped(**settings), trial())
    changed = [not torch.equal(a, b) for a, b in zip(before, found.model.parameters(), strict=True)]
    assert found.model is model and changed == [False, False, True, True]


class Noisy(Recipe):
    """Gradient noise after clipping: both of the model's own size, and new ones in their place."""

    def gradients(self, model, at) -> None:
        norms = [p.grad.norm() for p in model.parameters()]
        assert math.hypot(*map(float, norms)) <= 0.1 + 1e-6, "they are clipped before"
        for index, parameter in enumerate(model.parameters()):
            noise = torch.randn(parameter.shape, generator=at.generator) * 0.01
            if index:
                parameter.grad.add_(noise)
            else:
                parameter.grad = parameter.grad + noise + 0.001 * parameter.detach()


class NoisyTogether(Recipe):
    """Gradient noise for all models at once."""

    def gradients_together(self, gradients, at) -> None:
        assert {len(rows) for rows in gradients.values()} == {len(at)}
        for _, rows in sorted(gradients.items()):
            noise = [torch.randn(rows.shape[1:], generator=each.generator) for each in at]
            rows.add_(torch.stack(noise), alpha=0.01)


@pytest.mark.parametrize("kind", [Augmented, Grouped, Noisy, NoisyTogether])
def test_hooks_work_alike_on_models_that_are_trained_together(
    trial, splits, settings, net, kind
) -> None:
    sgd = lambda groups: torch.optim.SGD(groups, lr=0.5)  # noqa: E731
    settings |= {"optimizer": sgd, "clip_norm": 0.1}
    trials = [trial(seed=seed, checkpoints=None) for seed in (1, 2)]
    together = train_together([net] * 2, [splits] * 2, kind(**settings), trials)
    plain = train(net, splits, Recipe(**settings), trials[0])
    for one, each in zip(together, trials, strict=True):
        alone = train(net, splits, kind(**settings), each)
        torch.testing.assert_close(weights(one), weights(alone), rtol=1e-3, atol=1e-5)
    assert not torch.allclose(weights(together[0]), weights(plain), atol=1e-3)


def test_a_batch_in_parts_has_the_same_gradients(trial, splits, settings, net) -> None:
    sgd = lambda parameters: torch.optim.SGD(parameters, lr=0.5)  # noqa: E731
    settings |= {"optimizer": sgd, "clip_norm": 0.1}
    sizes: list[int] = []

    class Kept(Recipe):
        def training_loss(self, model, batch, at):
            sizes.append(len(batch["y"]))
            return super().training_loss(model, batch, at)

    whole = train(net, splits, Recipe(**settings), trial("a"))
    parts = train(net, splits, Kept(**settings, accumulate=3), trial("b"))
    assert sizes[:9] == [11, 11, 10, 11, 11, 10, 9, 9, 8]
    torch.testing.assert_close(weights(parts), weights(whole), rtol=1e-4, atol=1e-6)
    assert [r["train_loss"] for r in parts.curves] == pytest.approx(
        [r["train_loss"] for r in whole.curves]
    )
    with pytest.raises(Separately):
        train_together([net], [splits], Recipe(**settings, accumulate=3), [trial("c")])


def test_an_optimizer_that_asks_for_a_closure_gets_one(trial) -> None:
    """LBFGS solves least squares; a gradient step each would not."""
    x = torch.randn(40, 3, generator=torch.Generator().manual_seed(0)) * torch.tensor([1, 5, 0.1])
    target = x @ torch.tensor([1.0, -2.0, 3.0])
    split = Tensors(input=x, y=target[:, None])
    lbfgs = lambda p: torch.optim.LBFGS(p, lr=1.0, line_search_fn="strong_wolfe")  # noqa: E731
    recipe = Recipe(nn.MSELoss(), optimizer=lbfgs, epochs=3, batch_size=40)
    found = train(nn.Linear(3, 1), split, recipe, trial())
    torch.testing.assert_close(
        found.model.weight.detach(), torch.tensor([[1.0, -2.0, 3.0]]), rtol=1e-3, atol=1e-3
    )
    losses = [row["train_loss"] for row in found.curves]
    assert losses[0] > 1 and losses[-1] < 1e-3, "the loss of a step is the one before it"


def test_a_split_alone_is_only_trained_on(trial, splits, settings, net) -> None:
    found = train(net, splits.train, Recipe(**settings), trial())
    assert set(found.row) == {"epoch", "step", "train_loss"} and len(found.curves) == 4


CONTRADICTIONS = {
    "epochs or steps": {"epochs": 2, "steps": 5},
    "clip_norm or clip_value": {"clip_norm": 1.0, "clip_value": 1.0},
    "eval_every or eval_steps": {"eval_every": 2, "eval_steps": 5},
    "steps has to be 1 or more": {"steps": 0, "epochs": None},
    "a decay between 0 and 1": {"ema": 1.0},
    "no 9 parts to accumulate": {"accumulate": 9, "batch_size": 8},
    "val_accuracy is of the validation split": {"select": "best", "monitor": "accuracy"},
}


@pytest.mark.parametrize("words", CONTRADICTIONS)
def test_settings_that_contradict_each_other(words, settings) -> None:
    given = CONTRADICTIONS[words]
    with pytest.raises(ValueError, match=words):
        Recipe(**settings | given)
    problems = list(Fit.refused({"metrics": {"accuracy": None}} | given))
    assert len(problems) == 1 and words in problems[0]


def test_validation_refuses_them_before_anything_runs(project, edit_spec) -> None:
    assert validate.validate("toy") == []
    edit_spec(lambda spec: spec["variants"]["net"]["procedure"]["init_args"].update(steps=3))
    assert any("give epochs or steps, not both" in str(each) for each in validate.validate("toy"))


def test_a_loss_is_needed_unless_there_is_another_objective(trial, splits, net) -> None:
    with pytest.raises(ValueError, match="has no loss"):
        train(net, splits, Recipe(epochs=1), trial())


def test_a_recipe_that_remembers_is_not_for_several_models_at_once(
    trial, splits, settings, net
) -> None:
    with pytest.raises(Separately, match="has state"):
        train_together([net], [splits], Remembering(**settings), [trial()])


def test_data_of_its_own_kind_is_no_split(trial, splits, settings, net) -> None:
    class Data:
        """Like those of papers: more than splits."""

        train, val, test = splits.train, None, splits.test

    found = train(net, Data(), Recipe(**settings), trial())
    assert (
        found.curves
        == train(net, Splits(splits.train, splits.test), Recipe(**settings), trial("b")).curves
    )
