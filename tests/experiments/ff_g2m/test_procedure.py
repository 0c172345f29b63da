"""Training: selection and stopping by hand, the same teacher for all, and a small known result."""

import inspect
from collections.abc import Mapping
from dataclasses import replace
from functools import partial
from pathlib import Path

import pytest
import torch

pytest.importorskip("torch_geometric")

from baselines.gnn import GCN
from experiments.ff_g2m.data import Graph, block_model
from experiments.ff_g2m.model import Student
from experiments.ff_g2m.procedure import Distillation
from harness.procedures.base import Outcome, Trial
from harness.procedures.checkpoints import Checkpoints, Stopped
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
    arguments = {"terms": TERMS[name]}
    measured = Distillation.produces(arguments) - Distillation.sometimes(arguments)
    assert set(outcomes[name].metrics) == measured


def test_accuracy_is_measured_at_the_test_nodes():
    """Wrong labels there change it, and nothing that training or selection look at."""
    graph = trial(nodes=200).data
    wrong = graph.y.clone()
    wrong[graph.test] = (graph.y[graph.test] + 1) % 4
    before, after = (
        Distillation(TEACHER, ["node"], epochs=20).run(replace(trial(nodes=200), data=data)).metrics
        for data in (graph, replace(graph, y=wrong))
    )
    for name in ("accuracy", "teacher_accuracy"):
        assert before[name] > 0.4 and after[name] < 0.4, name
    for name in ("val_accuracy", "agreement", "selected_epoch"):
        assert before[name] == after[name], name


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


def curves(terms: list[str], **changes: object) -> tuple[Outcome, dict[str, list[float]]]:
    """A short run on a small graph, and each figure of its epochs."""
    rows: list[Mapping[str, float]] = []
    given = {"epochs": 60, "patience": 60} | changes
    data = given.pop("data", None) or trial(nodes=200).data
    seen = replace(
        trial(nodes=200), data=data, report=lambda progress: rows.append(progress.metrics)
    )
    outcome = Distillation(TEACHER, terms, **given).run(seen)
    names = {name: None for row in rows for name in row}
    return outcome, {name: [row[name] for row in rows if name in row] for name in names}


def test_the_last_of_equal_epochs_is_selected_and_patience_counts_from_there():
    for terms, name in ((["node"], "teacher"), ([], "student")):
        outcome, figures = curves(terms, patience=8)
        val = figures[f"{name} val_accuracy"]
        last = max(range(len(val)), key=lambda epoch: (val[epoch], epoch)) + 1
        assert val.count(max(val)) > 1, "no epochs to choose between"
        assert len(val) == last + 8 < 60, name
    assert (outcome.metrics["selected_epoch"], outcome.metrics["val_accuracy"]) == (last, max(val))
    # what is measured is the model of that epoch: the same as if training had ended there
    assert curves([], epochs=last)[0].metrics == outcome.metrics


def test_teacher_and_student_learn_the_training_labels_alone():
    graph = trial(nodes=200).data
    others = torch.cat([graph.val, graph.test])
    changed = graph.y.clone()
    changed[others] = (graph.y[others] + 1) % 4
    data = replace(graph, y=changed)
    for terms, name in ((["node"], "teacher train_loss"), ([], "student train_loss")):
        (_, before), (_, after) = (curves(terms, data=d, epochs=5) for d in (graph, data))
        assert before[name] == after[name]
        assert len(set(before[name])) == 5


@pytest.mark.parametrize("epochs", [3, 11])  # of the teacher's and the student's eight
def test_an_interrupted_trial_ends_in_the_same_metrics(tmp_path: Path, epochs: int):
    procedure = Distillation(TEACHER, ["low", "high-elsewhere"], epochs=8)
    done: list[str] = []

    def attempt(most: float) -> Outcome:
        checkpoints = Checkpoints(tmp_path / "kept", every=0, stopping=lambda: len(done) >= most)
        report = lambda progress: done.append(next(iter(progress.metrics)))  # noqa: E731
        given = {"workdir": tmp_path, "checkpoints": checkpoints, "report": report}
        return procedure.run(replace(trial(nodes=200), **given))

    with pytest.raises(Stopped):
        attempt(most=epochs)
    again = attempt(most=float("inf"))
    made_anew = 8 if epochs > 8 else 0  # a finished teacher is kept in the store of parts alone
    assert len(done) == 16 + made_anew
    assert again.metrics == procedure.run(trial(nodes=200)).metrics


def test_the_student_sees_no_graph():
    torch.manual_seed(0)
    student, x = Student(8, 3, hidden=16, layers=3, dropout=0.5).eval(), torch.randn(6, 8)
    assert torch.allclose(student(x)[2:4], student(x[2:4]))
    assert torch.allclose(student(x.to_sparse_csr()), student(x), atol=1e-6)


def test_without_edges_there_is_nothing_to_distil_across_them():
    graph = block_model(seed=0, nodes=200)
    lonely = Graph(graph.x, graph.y, graph.pairs[:, :0], graph.train, graph.val, graph.test)
    with pytest.raises(ValueError, match="without edges"):
        Distillation(TEACHER, ["high"])._terms(lonely, torch.randn(200, 4), seed=0)


def test_supervision_is_a_share():
    with pytest.raises(ValueError, match=r"\[0, 1\]"):
        Distillation(TEACHER, [], supervision=1.5)
