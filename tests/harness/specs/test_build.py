"""From configuration to objects."""

from __future__ import annotations

import pytest
import torch

from harness.specs.build import BuildError, build, check


def linear(**arguments) -> dict:
    return {"class_path": "torch.nn.Linear", "init_args": arguments}


def test_dims_of_the_data_are_filled_in() -> None:
    layer = build(linear(in_features="${data.features}", out_features=3), {"features": 7})
    assert (layer.in_features, layer.out_features) == (7, 3)
    check(linear(in_features="${data.features}", out_features=3))
    with pytest.raises(BuildError, match=r"no \$\{data.widgets\}; it has features"):
        build(linear(in_features="${data.widgets}", out_features=3), {"features": 7})


def test_what_the_runner_gives_need_not_stand_in_the_spec(project) -> None:
    config = {"class_path": "experiments.toy.parts.Behave", "init_args": {}}
    assert build(config, given={"seed": 3, "root": "x"}).seed == 3
    with pytest.raises(BuildError, match="seed"):
        check({**config, "init_args": {"seed": 1}}, given=frozenset({"seed"}))


def test_nested_classes_and_callables_are_built() -> None:
    config = {
        "class_path": "harness.procedures.fit.Fit",
        "init_args": {
            "loss": {"class_path": "torch.nn.MSELoss"},
            "metrics": {"mse": {"class_path": "torchmetrics.MeanSquaredError"}},
            "optimizer": {"class_path": "torch.optim.SGD", "init_args": {"lr": 0.5}},
        },
    }
    procedure = build(config)
    optimizer = procedure.optimizer([torch.nn.Parameter(torch.ones(1))])
    assert isinstance(optimizer, torch.optim.SGD) and optimizer.defaults["lr"] == 0.5


@pytest.mark.parametrize(
    ("config", "says"),
    [
        (linear(in_features=1), "out_features"),
        (linear(in_features="a", out_features=1), "Expected a <class 'int'>"),
        (linear(in_feature=1, out_features=1), "did you mean 'in_features'?"),
        ({"class_path": "subprocess.run"}, "may not be named"),
        ({"class_path": "torch"}, "may not be named"),
        ({"class_path": "torch.nn.modulles.Linear"}, "no module named 'torch.nn.modulles'"),
        ({"class_path": "torch.nn.Lineer"}, "did you mean 'Linear'?"),
        ({"class_path": "torch.float32"}, "may not be named"),
    ],
)
def test_mistakes_are_explained(config, says) -> None:
    with pytest.raises(BuildError) as error:
        check(config)
    assert says in str(error.value)
    assert "\n" not in str(error.value)


def test_a_forbidden_package_is_not_imported_when_nested() -> None:
    config = {
        "class_path": "torch.nn.Sequential",
        "init_args": {"args": [{"class_path": "antigravity.fly"}]},
    }
    with pytest.raises(BuildError):
        check(config)
    import sys

    assert "antigravity" not in sys.modules
