"""Training: selection and stopping by hand, the same teacher for all, and a small known result."""

import inspect
from collections.abc import Mapping
from dataclasses import replace
from functools import partial
from pathlib import Path

import pytest
import torch
from torch import nn

pytest.importorskip("torch_geometric")

from baselines.gnn import GCN
from experiments.ff_g2m.data import Graph, block_model
from experiments.ff_g2m.model import Student
from experiments.ff_g2m.procedure import Distillation, Selected
from harness.procedures.base import Diverged, Outcome, Trial
from harness.procedures.parts import Parts

TEACHER = partial(GCN, hidden=32)
TERMS = {"mlp": [], "glnn": ["node"], "lfd": ["low"], "ff": ["low", "high"]}


def trial(seed: int = 0, nodes: int = 600, **graph: float) -> Trial:
    return Trial(
        seed=seed,
        data=block_model(seed=seed, nodes=nodes, **graph),
        model=lambda: Student(64, 4, hidden=32),
        device=torch.device("cpu"),
        workdir=Path(),
    )


def run(terms: list[str], seed: int = 0, epochs: int = 60, **graph: float) -> Outcome:
    torch.seed()  # nothing may depend on the state in which others leave the global generator
    return Distillation(TEACHER, terms, epochs=epochs).run(trial(seed, **graph))


@pytest.fixture(scope="module", autouse=True)
def one_thread():
    """Products this small wait for a second thread longer than they gain from it."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="module")
def outcomes() -> dict[str, Outcome]:
    return {name: run(terms) for name, terms in TERMS.items()}


@pytest.mark.parametrize("name", TERMS)
def test_a_variant_measures_what_it_declares(outcomes, name):
    assert set(outcomes[name].metrics) == Distillation.produces({"terms": TERMS[name]})


def test_all_variants_of_a_seed_learn_from_the_same_teacher(outcomes):
    accuracies = {outcomes[name].metrics["teacher_accuracy"] for name in ("glnn", "lfd", "ff")}
    assert len(accuracies) == 1


CHANGES = {
    "teacher": partial(GCN, hidden=8),
    "teacher_learning_rate": 0.05,
    "weight_decay": 0.1,
    "epochs": 4,
    "patience": 1,
    "supervision": 0.5,
    "learning_rate": 0.05,
}


def test_a_teacher_is_shared_by_those_that_would_train_the_same(tmp_path: Path):
    """What the teacher depends on is told apart; what it does not is no reason to train another."""
    settings = {"teacher": TEACHER, "epochs": 8, "terms": ["node"]}

    def metrics(parts: Parts | None, **changes: object) -> Mapping[str, float]:
        arguments = settings | changes
        names = inspect.signature(Distillation).parameters
        plain = {name: str(arguments.get(name)) for name in names}
        config = {"procedure": {"init_args": plain}}
        shared = replace(trial(nodes=200), config=config, parts=parts)
        return Distillation(**arguments).run(shared).metrics

    parts = Parts(tmp_path, {})
    assert metrics(parts) == metrics(parts) == metrics(None)
    for name, value in CHANGES.items():
        before = len(list(tmp_path.glob("*.part")))
        assert metrics(parts, **{name: value}) == metrics(None, **{name: value}), name
        made = len(list(tmp_path.glob("*.part"))) - before
        assert made == (0 if name in ("supervision", "learning_rate") else 1), name


def test_distillation_brings_structure_to_a_perceptron_and_rewiring_takes_it_away(outcomes):
    ff, mlp = (outcomes[name].metrics["accuracy"] for name in ("ff", "mlp"))
    rewired = run(["low", "high"], rewire=True).metrics["accuracy"]
    assert mlp > 0.35  # chance is 0.25
    assert ff > mlp + 0.08
    assert rewired < ff - 0.08


def test_the_high_frequency_loss_is_lower_where_it_is_trained(outcomes):
    errors = {n: outcomes[n].metrics["high_frequency_error"] for n in ("lfd", "ff")}
    assert errors["ff"] < errors["lfd"]


def test_on_random_pairs_the_losses_bring_nothing_of_the_graph(outcomes):
    low = run(["low-elsewhere"]).metrics
    assert low["accuracy"] < outcomes["lfd"].metrics["accuracy"] - 0.08
    high = run(["low", "high-elsewhere"]).metrics
    assert high["teacher_accuracy"] == outcomes["ff"].metrics["teacher_accuracy"]
    assert high["high_frequency_error"] > outcomes["ff"].metrics["high_frequency_error"]


def test_trials_repeat_bit_for_bit(outcomes):
    assert run(TERMS["glnn"]).metrics == outcomes["glnn"].metrics


class Counter(nn.Module):
    """A model whose single weight counts the optimiser's steps."""

    def __init__(self) -> None:
        super().__init__()
        self.steps = nn.Parameter(torch.zeros(()))

    def forward(self) -> torch.Tensor:
        return self.steps


def select(validation: list[float], patience: int) -> tuple[Selected, float, int]:
    """Train a Counter on a made-up validation curve: what was selected, its weight, epochs."""
    curve, seen = iter(validation), []

    def evaluation(model: nn.Module) -> tuple[float, float]:
        seen.append(next(curve))
        return seen[-1], len(seen) / 100

    procedure = Distillation(TEACHER, [], epochs=len(validation), patience=patience, weight_decay=0)
    model = Counter()
    chosen = procedure._fit(model, (), lambda x: -x, evaluation, 1.0, lambda *_: None)
    return chosen, round(model.steps.item(), 3), len(seen)


def test_the_last_of_equal_epochs_is_selected_and_its_weights_come_back():
    chosen, weight, epochs = select([0.1, 0.5, 0.3, 0.5, 0.4, 0.2, 0.1, 0.9], patience=3)
    # epochs 5, 6 and 7 stay below the best of epoch 4, so that 8 is never reached
    assert (chosen.epoch, chosen.val, chosen.test) == (4, 0.5, 0.04)
    assert weight == 4 and epochs == 7


def test_training_runs_to_the_end_while_validation_improves():
    chosen, weight, epochs = select([0.0, 0.1, 0.2, 0.3], patience=1)
    assert (chosen.epoch, weight, epochs) == (4, 4, 4)


def test_the_student_sees_no_graph():
    torch.manual_seed(0)
    student, x = Student(8, 3, hidden=16, layers=3, dropout=0.5).eval(), torch.randn(6, 8)
    assert torch.allclose(student(x)[2:4], student(x[2:4]))
    assert torch.allclose(student(x.to_sparse_csr()), student(x), atol=1e-6)


def test_without_edges_there_is_nothing_to_distil_across_them():
    graph = block_model(seed=0, nodes=200)
    lonely = Graph(graph.x, graph.y, graph.pairs[:, :0], graph.train, graph.val, graph.test)
    loss = Distillation(TEACHER, ["high"])._student_loss
    with pytest.raises(ValueError, match="without edges"):
        loss(lonely, torch.randn(200, 4))


def test_the_weights_of_labels_and_terms_add_up():
    graph = block_model(seed=0, nodes=200)
    teacher, student = torch.randn(200, 4), torch.randn(200, 4)
    value = {}
    for weight in (0.0, 0.3, 1.0):
        loss = Distillation(TEACHER, ["node"], weight)._student_loss(graph, teacher)
        value[weight] = float(loss(student))
    assert value[0.3] == pytest.approx(0.3 * value[1.0] + 0.7 * value[0.0], rel=1e-5)
    labels = Distillation(TEACHER, [], 0.3)._student_loss(graph, None)(student)
    assert float(labels) == pytest.approx(value[1.0], rel=1e-6)


def test_a_loss_that_is_not_finite_stops_the_trial():
    procedure = Distillation(TEACHER, [])
    with pytest.raises(Diverged, match="nan in epoch 1"):
        procedure._fit(Counter(), (), lambda x: x * torch.nan, None, 1.0, lambda *_: None)


def test_supervision_is_a_share():
    with pytest.raises(ValueError, match=r"\[0, 1\]"):
        Distillation(TEACHER, [], supervision=1.5)
