"""Similarities of features, and factor images with their knob."""

import numpy as np
import pytest

from experiments.image_triplets import factors as made
from experiments.image_triplets.choice import rank_correlation, upper
from experiments.image_triplets.similarity import (
    colours,
    gradients,
    image_similarities,
    pearson,
    relabelled,
)


def test_similarities_are_numpys_correlations():
    features = np.random.default_rng(0).standard_normal((6, 40))
    assert pearson(features) == pytest.approx(np.corrcoef(features))
    features[2] = 3.0  # constant
    assert pearson(features)[2].tolist() == [0, 0, 1, 0, 0, 0]


def test_relabelling_moves_rows_with_columns():
    matrix = np.random.default_rng(0).standard_normal((2, 5, 5))
    order = np.array([3, 1, 4, 0, 2])
    moved = relabelled(matrix, order)
    assert moved[1, 0, 2] == matrix[1, 3, 4] and moved.shape == matrix.shape


def test_colours_do_not_see_where_and_gradients_do_not_see_which():
    generator = np.random.default_rng(0)
    image = generator.integers(0, 256, (20, 20, 3), dtype=np.uint8)
    mixed = generator.permutation(image.reshape(-1, 3)).reshape(image.shape)
    both = np.stack([image, mixed])
    assert pearson(colours(both))[0, 1] == pytest.approx(1)
    assert pearson(gradients(both))[0, 1] < 0.9
    grey = np.repeat(image[..., :1], 3, -1)
    inverted = np.stack([grey, 255 - grey])
    assert pearson(gradients(inverted))[0, 1] > 0.99
    assert pearson(colours(np.stack([grey // 2, grey])))[0, 1] < 0.9


def test_colour_shares_sum_to_one():
    images = np.random.default_rng(0).integers(0, 256, (3, 9, 7, 3), dtype=np.uint8)
    assert (colours(images) ** 2).sum(1) == pytest.approx([1, 1, 1])


def test_gradients_know_orientation():
    x = np.sin(np.arange(40) / 2)
    upright = np.broadcast_to(x, (40, 40))
    lines = np.stack([upright, upright.T, np.roll(upright, 3, 1)])
    images = np.uint8(127 + 100 * np.repeat(lines[..., None], 3, -1))
    found = pearson(gradients(images))
    assert found[0, 2] > 0.8 > 0.1 > found[0, 1]


@pytest.mark.parametrize("rho", [0.0, 0.7])
def test_the_knob_is_the_correlation_of_texture_and_outline(rho):
    factors = made.draw(20_000, rho, np.random.default_rng(0))
    typical = made.typical_textures()[factors.category]
    found = [np.corrcoef(typical[:, k], factors.texture[:, k])[0, 1] for k in range(3)]
    assert found == pytest.approx([rho] * 3, abs=0.03)
    assert factors.texture.std(0) == pytest.approx([1, 1, 1], abs=0.03)


def test_images_show_outline_and_texture():
    generator = np.random.default_rng(0)
    factors = made.Factors(np.repeat(np.arange(8), 2), np.tile([[-1.0, 0, 0], [1, 0, 0]], (8, 1)))
    images = made.render(factors, generator)
    assert images.shape == (16, 32, 32, 3) and images.dtype == np.uint8
    coloured = np.ptp(images.astype(int), axis=-1) > 20
    area = coloured.mean((1, 2))
    assert (area > 0.08).all() and (area < 0.5).all()
    assert area[0::4].mean() > area[2::4].mean()  # discs without and with a hole
    hue = [images[i][coloured[i]].mean(0) for i in range(2)]
    assert np.abs(hue[0] - hue[1]).max() > 50


def test_similar_factors_are_similar():
    factors = made.Factors(
        np.array([0, 1, 2, 0]), np.array([[0.0] * 3, [0] * 3, [3, 4, 0], [0] * 3])
    )
    assert factors.high()[0].tolist() == [1, 0.5, 0.5, 1]
    assert factors.low()[0].tolist() == [0, 0, -5, 0]


@pytest.mark.parametrize(("weight", "least"), [(0.0, -0.1), (1.0, 0.4)])
def test_virtual_people_weigh_what_they_are_told_to(weight, least):
    generator = np.random.default_rng(0)
    factors = made.draw(60, 0.0, generator)
    judged = made.virtual_people(factors, generator, people=30, low_weight=weight).mean(0)
    assert judged == pytest.approx(judged.T) and not np.diag(judged).any()
    agreement = rank_correlation(upper(judged), -upper(factors.low()))
    assert least < agreement < least + 0.35
    assert rank_correlation(upper(judged), -upper(factors.high())) > 0.4


def test_low_level_features_see_textures():
    generator = np.random.default_rng(0)
    factors = made.draw(80, 0.0, generator)
    found = image_similarities(made.render(factors, generator))
    assert set(found) == {"pixels", "colours", "gradients"}
    low = upper(factors.low())
    assert all(rank_correlation(upper(one), low) > 0.1 for one in found.values())
