"""Choices and regressions, against scipy, scikit-learn and hand counts."""

import numpy as np
import pytest
from scipy import stats
from sklearn.linear_model import LogisticRegression

from experiments.image_triplets.choice import (
    accuracy,
    ceiling,
    choices,
    holm,
    image_weights,
    logistic,
    rank_correlation,
    reweighted,
    standardised,
    two_sided,
    upper,
)
from experiments.image_triplets.search import Triplets, random_triplets


def trials(seed=0, people=3, count=400):
    generator = np.random.default_rng(seed)
    x = generator.standard_normal((count, 2))
    weights = np.array([[0.3, 1.0, -0.5], [0.0, 0.2, 0.8], [-1.0, 0.5, 0.0]])[:people]
    p = 1 / (1 + np.exp(-(weights[:, :1] + weights[:, 1:] @ x.T)))
    return x, (generator.random(p.shape) < p).astype(float)


def test_the_image_that_is_judged_nearer_to_the_root_is_chosen():
    judged = np.array([[[0, 1, 2, 2], [1, 0, 5, 4], [2, 5, 0, 3], [2, 4, 3, 0]]], float)
    rows = np.array([[0, 1, 2], [1, 2, 3], [2, 0, 3]])
    triplets = Triplets(*rows.T, np.zeros((3, 2), int))
    assert choices(judged, triplets).tolist() == [[0.0, 1.0, 0.0]]
    tied = Triplets(*np.array([[0], [2], [3]]), np.zeros((1, 2), int))
    assert choices(judged, tied).tolist() == [[0.5]]


def test_regressions_are_those_of_scikit_learn():
    x, chosen = trials()
    found = logistic(x, chosen)
    for beta, y in zip(found, chosen, strict=True):
        fitted = LogisticRegression(C=np.inf, tol=1e-10, max_iter=1000).fit(x, y)
        assert beta == pytest.approx([fitted.intercept_[0], *fitted.coef_[0]], abs=1e-4)


def test_small_weights_move_coefficients_as_repetitions_do():
    """With weights 1 ± ε the first order is the regression up to ε²."""
    x, chosen = trials()
    fitted = logistic(x, chosen)
    more = np.random.default_rng(1).integers(0, 2, 400)
    apart = []
    for times in (4, 40):
        exact = logistic(np.repeat(x, times + more, 0), np.repeat(chosen, times + more, 1))
        (found,) = reweighted(x, chosen, fitted, (1 + more / times)[None])
        apart.append(np.abs(found - exact).max() / np.abs(fitted - exact).max())
    assert apart[0] < 0.1 and apart[1] < apart[0] / 5
    assert reweighted(x, chosen, fitted, np.ones((2, 400))) == pytest.approx(np.stack([fitted] * 2))


def test_choices_that_separate_do_not_run_away():
    x = np.linspace(-1, 1, 50)[:, None]
    beta = logistic(x, (x.T > 0).astype(float))
    assert np.isfinite(beta).all() and beta[0, 1] > 5


def test_there_is_no_regression_without_choices():
    with pytest.raises(ValueError, match="no triplets"):
        logistic(np.zeros((0, 2)), np.zeros((3, 0)))


def test_predictors_have_mean_square_one():
    x = standardised(np.array([3.0, 4.0]), np.array([1.0, -1.0]))
    assert (x**2).mean(0) == pytest.approx([1, 1])
    assert np.sign(x[:, 1]).tolist() == [1, -1]


def test_a_triplet_weighs_as_its_images_were_drawn():
    triplets = random_triplets(6, 50, np.random.default_rng(0))
    weights = image_weights(triplets, 6, 400, seed=3)
    drawn = np.random.default_rng(3).multinomial(6, np.full(6, 1 / 6), 400)
    rows = zip(triplets.root, triplets.first, triplets.second, strict=True)
    for column, (a, b, c) in enumerate(rows):
        assert weights[:, column].tolist() == (drawn[:, a] * drawn[:, b] * drawn[:, c]).tolist()
    assert weights.mean() == pytest.approx(5 * 4 / 36, rel=0.15)  # n(n-1)(n-2)/n³


def test_accuracy_and_ceiling_by_hand():
    chosen = np.array([[1.0, 0, 1, 0.5], [1, 1, 1, 0], [1, 0, 0, 0]])
    assert accuracy(np.array([1.0, -1, 0, 1]), chosen) == pytest.approx(
        [(1 + 1 + 0.5 + 0.5) / 4, (1 + 0 + 0.5 + 0) / 4, (1 + 1 + 0.5 + 0) / 4]
    )
    two = np.array([[1.0, 0, 1], [1, 0, 1], [1, 1, 0], [1, 1, 0]])
    assert ceiling(two) == pytest.approx(1 / 3)  # apart from the first, all majorities are against
    assert ceiling(np.ones((4, 5))) == 1


def test_holm_by_hand():
    assert holm(np.array([0.01, 0.04, 0.03, 0.5])) == pytest.approx([0.04, 0.09, 0.09, 0.5])
    assert holm(np.array([0.9, 0.6])).tolist() == [1, 1]


def test_p_is_that_of_a_t_test():
    x = np.random.default_rng(0).standard_normal(16) + 0.5
    t = x.mean() / (x.std(ddof=1) / 4)
    assert two_sided(np.array(t), 15) == pytest.approx(stats.ttest_1samp(x, 0).pvalue)


def test_rank_correlation_and_upper_triangle():
    a = np.random.default_rng(0).standard_normal((5, 5))
    symmetric = a + a.T
    assert upper(symmetric).tolist() == [symmetric[i, j] for i in range(5) for j in range(i + 1, 5)]
    assert rank_correlation(np.arange(4.0), np.exp(np.arange(4.0))) == pytest.approx(1)
    assert rank_correlation(np.ones(4), np.arange(4.0)) == 0
