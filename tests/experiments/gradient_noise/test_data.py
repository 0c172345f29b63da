"""Readers of bAbI and MNIST, and whether simulated answers follow from their stories."""

import numpy as np
import pytest
import torch

from experiments.gradient_noise import data

FILE = """1 Mary went to the kitchen.
2 John took the milk.
3 Where is Mary? \tkitchen\t1
4 Mary went out.
5 Where is Mary? \tout\t4
1 John went out.
2 What is carried? \tmilk,football\t1
""".splitlines()


def test_questions_see_the_story_so_far_and_none_of_the_one_before():
    first, second, third = data.read_questions(FILE)
    assert first.words == ("where", "is", "mary")
    assert first.answer == "kitchen"
    assert first.story == (
        ("mary", "went", "to", "the", "kitchen"),
        ("john", "took", "the", "milk"),
    )
    assert second.story == (*first.story, ("mary", "went", "out"))
    assert third.story == (("john", "went", "out"),)
    assert third.answer == "milk,football"


def test_splits_hold_out_the_last_tenth_and_put_the_latest_sentence_first():
    questions = list(data.read_questions(FILE * 10))
    splits = data.question_splits(questions, questions[:3])
    assert (len(splits.train), len(splits.val), len(splits.test)) == (27, 3, 3)
    assert splits.dims["sentences"] == 3
    batch = splits.test[torch.tensor([1])]
    counts = batch["story"][0, :, : splits.dims["words"]].sum(-1)
    assert counts.tolist() == [3, 4, 5]
    assert batch["length"].tolist() == [3]


def test_only_the_latest_sentences_are_remembered():
    story = tuple((f"w{i}",) for i in range(data.MEMORY + 7))
    splits = data.question_splits([], [data.Question(story, ("what",), "w0")])
    assert splits.dims["sentences"] == data.MEMORY
    seen = splits.test[torch.tensor([0])]["story"][0, :, : splits.dims["words"]].sum(0)
    assert int(seen.sum()) == data.MEMORY
    vocabulary = sorted({"what", *(f"w{i}" for i in range(data.MEMORY + 7))})
    assert seen[vocabulary.index("w0")] == 0
    assert seen[vocabulary.index(f"w{data.MEMORY + 6}")] == 1


@pytest.mark.parametrize("task", [1, 2])
def test_simulated_answers_follow_from_the_story(task):
    lines = data.simulate(task, 200, np.random.default_rng(0))
    questions = list(data.read_questions(lines))
    assert len(questions) == 200
    for question in questions:
        where, carrier = {}, {}
        for words in question.story:
            if words[1] in data.VERBS:
                where[words[0]] = words[-1]
            else:
                carrier[words[-1]] = words[0]
        asked = question.words[-1]
        assert question.answer == where[carrier.get(asked, asked)]
    assert len({q.answer for q in questions}) == len(data.PLACES)


def test_an_unknown_task_is_refused():
    with pytest.raises(ValueError, match="task"):
        data.simulate(3, 10, np.random.default_rng(0))


def write_idx(path, array):
    header = np.array([2048 + array.ndim, *array.shape], ">i4").tobytes()
    path.write_bytes(header + array.astype(np.uint8).tobytes())


def test_mnist_files_become_grey_levels_and_classes(tmp_path):
    rng = np.random.default_rng(0)
    images = {part: rng.integers(0, 256, (5, 28, 28)) for part in ("train", "t10k")}
    for part, array in images.items():
        write_idx(tmp_path / f"{part}-images-idx3-ubyte", array)
        write_idx(tmp_path / f"{part}-labels-idx1-ubyte", np.arange(5))
    splits = data.mnist(tmp_path)
    batch = splits.test[torch.arange(5)]
    np.testing.assert_allclose(batch["x"], images["t10k"].reshape(5, 784) / 255, rtol=1e-6)
    assert batch["y"].tolist() == [0, 1, 2, 3, 4]
    raw = data.mnist(tmp_path, white=255.0).test[torch.arange(5)]["x"]
    np.testing.assert_allclose(raw, images["t10k"].reshape(5, 784), rtol=1e-6)


def test_digits_are_split_without_overlap():
    splits = data.digits()
    assert (len(splits.train), len(splits.test)) == (1437, 360)
    assert splits.train.columns["x"].max() == 1
    assert torch.equal(data.digits(255.0).test.columns["x"], 255 * splits.test.columns["x"])
