import math

import pytest
import torch
from torch.nn import functional as F

from experiments.rnn_review.data import (
    IGNORED,
    adding,
    copying,
    copying_bound,
    latch,
    look_ahead,
    order,
    translation,
)

SMALL = {"train": 500, "test": 200}


@pytest.mark.parametrize("make", [adding, order, copying, look_ahead, latch, translation])
def test_splits_are_disjoint_and_depend_on_the_seed(make):
    data = make(seed=1, **SMALL)
    rows = [
        {tuple(row.flatten().tolist()) for row in split.columns["x"]}
        for split in (data.train, data.val, data.test)
    ]
    assert not (rows[0] & rows[1] or rows[0] & rows[2] or rows[1] & rows[2])
    again, other = make(seed=1, **SMALL), make(seed=2, **SMALL)
    assert torch.equal(data.train.columns["x"], again.train.columns["x"])
    assert not torch.equal(data.train.columns["x"], other.train.columns["x"])


def test_the_sum_is_of_the_marked_numbers_one_in_each_half():
    x, y = adding(0, length=10, train=4000).train.columns.values()
    marks = x[..., 1]
    assert (marks[:, :5].sum(1) == 1).all() and (marks[:, 5:].sum(1) == 1).all()
    torch.testing.assert_close((x[..., 0] * marks).sum(1), y)
    assert y.var() == pytest.approx(1 / 6, rel=0.1)  # what always saying 1 would miss
    assert marks.sum(0).min() > 4000 / 5 * 0.8  # every place is marked as often


def test_the_class_is_the_order_of_two_symbols_among_distractors():
    x, y = order(0, length=50, train=2000).train.columns.values()
    told = x >= 4
    assert (told.sum(1) == 2).all()
    places = told.nonzero()[:, 1].view(-1, 2)
    assert places[:, 0].min() == 5 and places[:, 0].max() == 10
    assert places[:, 1].min() == 25 and places[:, 1].max() == 30
    kinds = x[told].view(-1, 2) - 4
    assert torch.equal(2 * kinds[:, 0] + kinds[:, 1], y)
    assert y.bincount().min() > 400


def test_symbols_are_to_be_copied_after_the_sign():
    x, y = (c[0] for c in copying(0, length=7, count=3, kinds=4).train.columns.values())
    assert len(x) == 13 and x[9] == 5 and (x[3:9] == 0).all() and (x[10:] == 0).all()
    assert (y[:10] == 0).all() and torch.equal(y[10:], x[:3]) and x[:3].min() > 0


def test_the_bound_of_copying_is_the_loss_of_certain_blanks_and_equal_chances():
    data = copying(0, length=20, count=4, kinds=3, train=2, test=50)
    y = data.test.columns["y"]
    chances = torch.zeros(50, 4, 28)
    chances[:, 0, :24] = 1.0
    chances[:, 1:, 24:] = 1 / 3
    found = F.nll_loss((chances + 1e-12).log(), y)
    assert float(found) == pytest.approx(copying_bound(20, 4, 3), rel=1e-4)
    assert copying_bound(50) == pytest.approx(0.2971, abs=5e-5)
    assert copying_bound(100) == pytest.approx(0.1733, abs=5e-5)
    assert copying_bound(200) == pytest.approx(0.0945, abs=5e-5)


def test_a_target_is_the_symbol_that_comes_later():
    x, y = look_ahead(0, length=12, distance=3).train.columns.values()
    assert torch.equal(y[:, :9], x[:, 3:]) and (y[:, 9:] == IGNORED).all()


def test_the_latch_is_told_by_the_first_number_alone():
    x, y = latch(0, length=6, train=3000).train.columns.values()
    assert torch.equal(x[:, 0, 0] > 0, y == 1)
    assert abs(float((x[:, 1:, 0].mean(1) * (2.0 * y - 1)).mean())) < 0.01
    assert float(x[:, 1:].std()) == pytest.approx(0.2, rel=0.05)


def test_a_translation_keeps_the_order_and_the_mirrored_one_turns_it():
    x, y, before = translation(3, length=6).train.columns.values()
    meaning = torch.full((20,), -1)
    meaning[x.flatten()] = y.flatten()
    assert meaning.sort().values.tolist() == list(range(20))  # one to one
    assert torch.equal(meaning[x], y)
    assert (before[:, 0] == 20).all() and torch.equal(before[:, 1:], y[:, :-1])
    x, y, _ = translation(3, length=6, mirrored=True).train.columns.values()
    assert torch.equal(meaning[x.flip(1)], y)


def test_first_and_second_symbol_are_equally_likely_whatever_the_class_says():
    y = order(5, train=8000).train.columns["y"]
    share = (y // 2 == y % 2).double().mean()
    assert math.isclose(share, 0.5, abs_tol=0.03)
