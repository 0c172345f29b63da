from functools import partial

import pytest
import torch

from experiments.dkvb.model import Bottleneck, SoftFetch
from experiments.dkvb.theory import Locality, Size
from harness.procedures.base import Trial
from harness.seeding import seed_all


def run(procedure, model, tmp_path):
    seed_all(0)
    return procedure.run(Trial(0, None, model, torch.device("cpu"), tmp_path)).metrics


SMALL = {"features": 8, "classes": 4, "codebooks": 4, "pairs": 16, "key_dim": 3, "scale": 0.1}
SGD = partial(torch.optim.SGD, lr=0.3)


def test_a_step_is_local_and_obeys_its_law(tmp_path):
    found = run(Locality(SGD), lambda: Bottleneck(**SMALL), tmp_path)
    assert found["apart_change"] == 0.0, "bit for bit"
    assert 0.05 < found["apart_share"] < 0.95
    assert found["kernel_error"] < 1e-9


def test_it_is_not_where_values_are_fetched_softly(tmp_path):
    found = run(Locality(SGD), lambda: SoftFetch(**SMALL), tmp_path)
    assert found["apart_change"] > 1e-6 and found["kernel_error"] > 0.1


def test_an_optimizer_that_remembers_moves_what_was_not_fetched(tmp_path):
    adam = run(Locality(partial(torch.optim.Adam, lr=1e-3)), lambda: Bottleneck(**SMALL), tmp_path)
    assert adam["apart_change"] > 1e-6


def test_locality_is_asked_of_bottlenecks_alone(tmp_path):
    with pytest.raises(TypeError, match="in a bottleneck"):
        run(Locality(SGD), lambda: torch.nn.Linear(2, 2), tmp_path)


def test_sizes_are_counted(tmp_path):
    found = run(Size(), lambda: Bottleneck(5, 10, codebooks=3, pairs=7, key_dim=2), tmp_path)
    assert found["trained"].value == 3 * 7 * 10 and found["trained"].exact
    assert found["fixed"].value == 3 * 7 * 2 + 3 * 5 * 2
