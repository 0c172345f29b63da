"""The search: exact invariants, against loops over all pairs."""

import numpy as np
import pytest

from experiments.image_triplets.search import (
    Grid,
    Root,
    Triplets,
    _alternate,
    balanced,
    correlation,
    random_triplets,
    search,
    search_all,
)
from experiments.image_triplets.similarity import pearson


def similarities(images=120, seed=0, shared=0.0):
    """Two levels, which have a share of their features in common."""
    generator = np.random.default_rng(seed)
    both, one, other = generator.standard_normal((3, images, 12))
    return pearson(shared * both + one), pearson(shared * both + other)


def every(high, low, root, wanted, tolerances):
    """All pairs that a root has, by a loop."""
    others = [i for i in range(len(high)) if i != root]
    return {
        (i, j)
        for i in others
        for j in others
        if abs(high[root, j] - high[root, i] - wanted[0]) < tolerances[0]
        and abs(low[root, j] - low[root, i] - wanted[1]) <= tolerances[1]
    }


@pytest.mark.parametrize("low_wanted", [0.2, -0.3])
def test_pairs_are_those_of_a_loop_over_all_of_them(low_wanted):
    high, low = similarities(40)
    usable = np.arange(40) != 7
    first, second = Root(high[7], low[7], usable).pairs(0.25, low_wanted, (0.05, 0.1))
    found = list(zip(first.tolist(), second.tolist(), strict=True))
    assert set(found) == every(high, low, 7, (0.25, low_wanted), (0.05, 0.1))
    assert len(found) == len(set(found)) > 5


def test_the_second_image_is_the_better_match_however_wide_the_tolerance():
    high, low = similarities(40)
    first, second = Root(high[7], low[7], np.arange(40) != 7).pairs(0.01, 0.0, (0.2, 2.0))
    assert len(first) > 100 and (high[7, second] > high[7, first]).all()


def test_images_that_are_not_usable_are_not_paired():
    high, low = similarities(40)
    usable = np.arange(40) % 2 == 0
    first, second = Root(high[7], low[7], usable).pairs(0.25, 0.1, (0.2, 0.5))
    assert len(first) and not (first % 2).any() and not (second % 2).any()


def test_differences_are_where_the_grid_asks_for_them():
    high, low = similarities(150)
    grid = Grid(bins=3, tolerance=0.03)
    found = search(high, low, np.random.default_rng(1), grid, tables=4)
    assert len(found) >= 20
    size = 0.5 * high.std(), 0.5 * low.std()
    assert np.abs(found.differences(high) - found.cells[:, 0] * size[0]).max() < 0.03
    assert np.abs(np.abs(found.differences(low)) - found.cells[:, 1] * size[1]).max() <= 0.03
    assert set(found.cells.ravel()) <= {1, 2, 3}


def test_deviations_are_over_all_entries_and_tolerances_can_be_relative():
    high, _ = similarities(30)
    spread = np.sqrt(np.mean((high - high.mean()) ** 2))
    assert Grid(bins=4).targets(high) == pytest.approx(0.5 * spread * np.array([1, 2, 3, 4]))
    assert Grid(tolerance=0.05, relative=True).accepted(high) == pytest.approx(0.05 * spread)
    assert Grid().accepted(high) == 0.01


def test_no_image_comes_twice_unless_it_may_and_no_triplet_ever():
    high, low = similarities(90)
    grid = Grid(bins=2, tolerance=0.1)
    once = search(high, low, np.random.default_rng(0), grid, tables=30)
    images = np.concatenate([once.root, once.first, once.second])
    assert len(np.unique(images)) == len(images) == 90
    again = search(
        high[:6, :6], low[:6, :6], np.random.default_rng(0), grid, 200, tries=None, repeats=True
    )
    rows = np.stack([again.root, again.first, again.second], 1)
    assert len(np.unique(rows, axis=0)) == len(rows) > 6
    assert (rows[:, 0] != rows[:, 1]).all() and (rows[:, 1] != rows[:, 2]).all()


def test_low_level_differences_are_of_either_sign_alike():
    high, low = similarities(400)
    found = search(high, low, np.random.default_rng(0), Grid(3, tolerance=0.1), 30, repeats=True)
    share = np.mean(found.differences(low) > 0)
    assert (found.differences(high) > 0).all()
    assert abs(share - 0.5) < 4 * 0.5 / np.sqrt(len(found))
    same = search(high, low, np.random.default_rng(0), Grid(3, tolerance=0.1), 30, signs="same")
    assert (same.differences(low) > 0).all()


def test_with_all_roots_tried_a_cell_is_empty_only_if_no_root_has_a_pair():
    high, low = similarities(24, shared=1.0)
    grid = Grid(bins=6, tolerance=0.02)
    found = search(high, low, np.random.default_rng(0), grid, 12, tries=None, repeats=True)
    filled = {
        (h, int(np.sign(d)) * k)
        for (h, k), d in zip(found.cells.tolist(), found.differences(low), strict=True)
    }
    size = 0.5 * high.std(), 0.5 * low.std()
    there = {
        (h, k)
        for h in range(1, 7)
        for k in [*range(-6, 0), *range(1, 7)]
        if any(
            every(high, low, root, (h * size[0], k * size[1]), (0.02, 0.02)) for root in range(24)
        )
    }
    assert filled <= there
    assert len(filled) > 0.9 * len(there) < 0.9 * 72


def test_one_root_a_cell_fills_less_than_all():
    high, low = similarities(60)
    counts = [
        len(search(high, low, np.random.default_rng(0), Grid(5), 4, tries, repeats=True))
        for tries in (1, None)
    ]
    assert counts[0] < 0.7 * counts[1]


def test_the_search_takes_correlation_away_where_it_can_fill_its_grid():
    high, low = similarities(400, shared=1.0)
    generator = np.random.default_rng(0)
    drawn = random_triplets(400, 20_000, generator)
    before = correlation(drawn.differences(high), drawn.differences(low))
    grid = Grid(bins=3, tolerance=0.05)
    found = search(high, low, generator, grid, 60, tries=None, repeats=True)
    assert before > 0.2
    assert abs(correlation(found.differences(high), found.differences(low))) < 0.05
    same = search(high, low, generator, grid, 30, tries=None, repeats=True, signs="same")
    assert correlation(same.differences(high), same.differences(low)) > 0.7


def test_balanced_cells_have_both_signs_alike_and_no_correlation():
    high, low = similarities(60, shared=1.5)
    generator = np.random.default_rng(0)
    found = search(high, low, generator, Grid(8), 30, tries=None, repeats=True)
    kept = balanced(found, low, generator)
    assert 20 < len(kept) < len(found)
    assert correlation(found.differences(high), found.differences(low)) > 0.1
    assert abs(correlation(kept.differences(high), kept.differences(low))) < 0.02
    signs = np.sign(kept.differences(low))
    for cell in np.unique(kept.cells, axis=0):
        assert signs[(kept.cells == cell).all(1)].sum() == 0


def test_the_correlation_does_not_depend_on_which_image_is_first():
    high, low = similarities(50, shared=1.0)
    generator = np.random.default_rng(0)
    found = random_triplets(50, 500, generator)
    turned = found.swapped(generator.random(500) < 0.5)
    pair = correlation(found.differences(high), found.differences(low))
    assert correlation(np.zeros(0), np.zeros(0)) == 0
    assert correlation(turned.differences(high), turned.differences(low)) == pytest.approx(pair)
    both = [
        np.concatenate([t.differences(c) for t in (found, found.swapped(np.ones(500, bool)))])
        for c in (high, low)
    ]
    assert pair == pytest.approx(np.corrcoef(*both)[0, 1])


def test_random_triplets_are_of_three_images_and_uniform():
    found = random_triplets(4, 24_000, np.random.default_rng(0))
    rows = np.stack([found.root, found.first, found.second], 1)
    kinds, counts = np.unique(rows, axis=0, return_counts=True)
    assert len(kinds) == 24
    assert np.abs(counts - 1000).max() < 5 * np.sqrt(1000)


def test_nothing_found_is_an_empty_set_of_triplets():
    found = search(*similarities(3), np.random.default_rng(0), Grid(tolerance=1e-9), 1)
    assert len(found) == 0 and isinstance(found, Triplets)
    assert len(balanced(found, similarities(3)[1], np.random.default_rng(0))) == 0


def test_all_triplets_at_once_are_what_the_search_finds_one_by_one():
    high, low = similarities(24, shared=1.0)
    grid = Grid(bins=6, tolerance=0.02)
    generator = np.random.default_rng(0)
    slow = search(high, low, generator, grid, 40, tries=None, repeats=True)
    fast = search_all(high, low, generator, grid, 40)
    cells, counts = [], []
    for found in (slow, fast):
        signed = found.cells * np.stack([np.ones(len(found)), np.sign(found.differences(low))], 1)
        cell, count = np.unique(signed, axis=0, return_counts=True)
        cells.append(cell)
        counts.append(count)
        size = 0.5 * high.std(), 0.5 * low.std()
        assert np.abs(found.differences(high) - found.cells[:, 0] * size[0]).max() < 0.02
        assert np.abs(np.abs(found.differences(low)) - found.cells[:, 1] * size[1]).max() < 0.02
        rows = np.stack([found.root, found.first, found.second], 1)
        assert len(np.unique(rows, axis=0)) == len(rows) > 100
        assert (rows[:, 0] != rows[:, 1]).all() and (rows[:, 0] != rows[:, 2]).all()
    assert cells[0].tolist() == cells[1].tolist()
    assert len(fast) == pytest.approx(len(slow), rel=0.1)
    assert np.unique(fast.cells, axis=0, return_counts=True)[1].max() <= 40
    with pytest.raises(ValueError, match="overlap"):
        search_all(high, low, generator, Grid(tolerance=0.3, relative=True))


def test_roots_are_drawn_alike_whatever_the_number_of_their_pairs():
    """A root with many pairs is not asked for more often than one with few."""
    counts = np.zeros(2)
    for seed in range(300):
        found = _alternate(np.array([0, 1]), np.array([1, 100]), 1, np.random.default_rng(seed))
        counts[int(found[0] > 0)] += 1
    assert abs(counts[0] - 150) < 4 * np.sqrt(75)
    rest = _alternate(np.array([0, 1]), np.array([1, 4]), 9, np.random.default_rng(0))
    assert sorted(rest) == [0, 1, 2, 3]
