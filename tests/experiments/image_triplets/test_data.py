"""Readers on files in the official form, factor images, and that splits share nothing."""

import numpy as np
import pytest
import torch
from PIL import Image
from scipy.io import savemat

from experiments.image_triplets import data
from experiments.image_triplets.similarity import pearson
from harness.loading.images import CIFAR10
from harness.loading.readers import BadFormat

COUNT, PEOPLE = 6, 3


def matrices(count, seed):
    drawn = np.random.default_rng(seed).random((count, COUNT, COUNT))
    return drawn + drawn.swapaxes(1, 2)


def structs(field, values, **more):
    found = np.zeros(len(values), dtype=[(field, object), *[(key, object) for key in more]])
    for row, value in enumerate(values):
        found[field][row] = value
        for key, texts in more.items():
            found[key][row] = texts[row]
    return found


def write_objects(folder, models=("EVA", "V1", "HMAX", "Silhouette", "RADON", "animacy")):
    images = np.random.default_rng(0).integers(0, 256, (COUNT, 40, 40, 3), dtype=np.uint8)
    judged, scans, found = matrices(PEOPLE, 1), matrices(8, 2), matrices(len(models), 3)
    savemat(
        folder / "Kriegeskorte_Neuron2008_supplementalData.mat",
        {"stimuli_92objs": structs("image", images)},
    )
    savemat(folder / "92_behavRDMs.mat", {"rdms_behav_92": structs("RDM", judged)})
    savemat(folder / "92_brainRDMs.mat", {"RDMs": structs("RDM", scans).reshape(4, 2)})
    savemat(folder / "92_modelRDMs.mat", {"Models": structs("RDM", found, name=list(models))})
    return images, judged, scans, dict(zip(models, found, strict=True))


def write_photographs(folder, train=3, test=2):
    generator = np.random.default_rng(0)
    for part, count in (("train", train), ("test", test)):
        for kind in CIFAR10:
            (folder / part / kind).mkdir(parents=True)
            for number in range(count):
                pixels = generator.integers(0, 256, (32, 32, 3), dtype=np.uint8)
                Image.fromarray(pixels).save(folder / part / kind / f"{number:04d}.jpg")


def test_objects_are_what_the_files_say(tmp_path):
    images, judged, scans, models = write_objects(tmp_path)
    objects = data.objects92(tmp_path)
    assert (objects.images == images).all()
    assert objects.judgements == pytest.approx(judged)
    assert objects.brain["it"] == pytest.approx(1 - scans.mean(0))
    assert objects.brain["early"] == pytest.approx(1 - models["EVA"])
    assert objects.lows["hmax"] == pytest.approx(1 - models["HMAX"])
    assert objects.lows["pixels"] == pytest.approx(pearson(images.reshape(COUNT, -1) / 255.0))
    assert set(objects.lows) == {*data.MODELS.values(), "pixels", "colours", "gradients"}


def test_files_of_another_form_are_refused(tmp_path):
    write_objects(tmp_path, models=("EVA", "V1", "HMAX", "Silhouette"))
    with pytest.raises(BadFormat, match="lacks RADON"):
        data.objects92(tmp_path)
    savemat(tmp_path / "92_behavRDMs.mat", {"rdms_behav_92": structs("RDM", np.zeros((2, 5, 5)))})
    write = matrices(5, 0)
    names = ["EVA", "V1", "HMAX", "Silhouette", "RADON"]
    savemat(tmp_path / "92_modelRDMs.mat", {"Models": structs("RDM", write, name=names)})
    with pytest.raises(BadFormat, match="judgements"):
        data.objects92(tmp_path)
    (tmp_path / "92_behavRDMs.mat").write_bytes(b"no MATLAB file at all")
    with pytest.raises(BadFormat, match="92_behavRDMs"):
        data.objects92(tmp_path)


def test_objects_are_shown_as_small_and_as_standardised_as_photographs(tmp_path):
    write_objects(tmp_path)
    write_photographs(tmp_path / "photographs")
    seen = data.photographs(tmp_path, tmp_path / "photographs", 0, train=16, val=8, test=10)
    assert seen.shown.shape == (COUNT, 3, 32, 32)
    assert float(seen.shown.mean()) == pytest.approx(0, abs=1e-5)
    assert float(seen.shown.std()) == pytest.approx(1, abs=1e-5)
    assert [len(part) for part in (seen.train, seen.val, seen.test)] == [16, 8, 10]
    assert seen.dims["classes"] == 10


def test_factor_images_of_no_two_splits_are_the_same_and_labels_can_be_shuffled():
    made = data.factor_images(3, train=200, val=50, test=60)
    parts = [part[torch.arange(len(part))] for part in (made.train, made.val, made.test)]
    pixels = torch.cat([part["x"].flatten(1) for part in parts])
    assert len(torch.unique(pixels, dim=0)) == len(pixels) == 310
    assert float(parts[0]["x"].mean()) == pytest.approx(0, abs=1e-4)
    assert made.factors.category.tolist() == parts[2]["y"].tolist()
    assert len(made.factors) == 60
    shuffled = data.factor_images(3, train=200, val=50, test=60, shuffle_labels=True)
    rows = torch.arange(200)
    assert torch.equal(shuffled.train[rows]["x"], parts[0]["x"])
    changed = (shuffled.train[rows]["y"] != parts[0]["y"]).float().mean()
    assert float(changed) > 0.7
    assert torch.equal(shuffled.test[torch.arange(60)]["y"], parts[2]["y"])


def test_another_seed_draws_other_images_and_objects():
    one, other = (data.factor_photographs(seed, train=40, val=10, test=30) for seed in (0, 1))
    rows = torch.arange(40)
    assert not torch.equal(one.train[rows]["x"], other.train[rows]["x"])
    assert not (one.objects.images == other.objects.images).all()
    again = data.factor_objects(0)
    assert (again.judgements == one.objects.judgements).all()
    assert one.shown.shape == (92, 3, 32, 32)


def test_judgements_weigh_textures_by_the_weight():
    from experiments.image_triplets.choice import rank_correlation, upper

    def agreement(weight):
        objects = data.factor_objects(0, rho=0.0, low_weight=weight)
        return rank_correlation(upper(objects.judgements.mean(0)), -upper(objects.brain["early"]))

    assert agreement(1.0) > agreement(0.0) + 0.2
