"""MNIST, bAbI, and what stands in for them where they are not at hand."""

from __future__ import annotations

import functools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from harness.loading.readers import read_labelled_images
from harness.loading.splits import Splits, Tensors

MEMORY = 50  # the memory holds the latest sentences of a story, at most so many


@functools.lru_cache(maxsize=1)
def mnist(root: Path, white: float = 1.0) -> Splits:
    """60,000 training and 10,000 test digits as 784 grey levels, from the idx files.

    Args:
        white: the largest level; 255 for the files' own, of which the paper does not say whether
            it scales them.
    """
    train, test = (
        _grey_levels(*read_labelled_images(root, part), white) for part in ("train", "t10k")
    )
    return Splits(train, test, dims={"features": 784, "classes": 10})


def _grey_levels(images: np.ndarray, labels: np.ndarray, white: float) -> Tensors:
    x = torch.from_numpy(images).flatten(1) / 255.0
    return Tensors(x=x * white, y=torch.from_numpy(labels).long())


@functools.lru_cache(maxsize=1)
def digits(white: float = 1.0) -> Splits:
    """scikit-learn's 1,797 digits of 8x8 grey levels up to ``white``; every fifth one tests."""
    from sklearn.datasets import load_digits

    found = load_digits()
    x = torch.from_numpy(found.data).float() / 16 * white
    y = torch.from_numpy(found.target).long()
    test = torch.arange(len(y)) % 5 == 0
    train, held_out = Tensors(x=x[~test], y=y[~test]), Tensors(x=x[test], y=y[test])
    return Splits(train, held_out, dims={"features": 64, "classes": 10})


@dataclass(frozen=True)
class Question:
    """A question with the sentences told before it, oldest first; all as lists of words."""

    story: tuple[tuple[str, ...], ...]
    words: tuple[str, ...]
    answer: str


@functools.lru_cache(maxsize=1)
def babi(root: Path, task: int) -> Splits:
    """One bAbI task (English, 1,000 questions each): the last tenth of training validates."""
    train, test = (
        list(read_questions(next(root.glob(f"en/qa{task}_*_{part}.txt")).read_text().splitlines()))
        for part in ("train", "test")
    )
    return question_splits(train, test)


@functools.lru_cache(maxsize=1)
def babi_like(task: int, questions: int = 1000) -> Splits:
    """Simulated stories like those of bAbI's first two tasks, in the same format.

    Task 1 asks where a person is (one supporting fact), task 2 where an object is, which takes
    the sentence in which it was taken and where its carrier went (two supporting facts).
    """
    train, test = (
        list(read_questions(simulate(task, questions, np.random.default_rng([task, part]))))
        for part in range(2)
    )
    return question_splits(train, test)


def read_questions(lines: Sequence[str]) -> Iterator[Question]:
    """Questions of a bAbI file: ``<id> <sentence>`` or ``<id> <question>?\\t<answer>\\t<ids>``.

    The id 1 starts a new story. An answer of several words is one class.
    """
    story: list[tuple[str, ...]] = []
    for line in lines:
        number, _, text = line.strip().partition(" ")
        if number == "1":
            story = []
        sentence, *answer = text.split("\t")
        words = tuple(word.strip(".?").lower() for word in sentence.split())
        if answer:
            yield Question(tuple(story), words, answer[0].strip().lower())
        else:
            story.append(words)


def question_splits(train: list[Question], test: list[Question]) -> Splits:
    """Bags of words for :class:`~experiments.gradient_noise.memory.MemoryNetwork`."""
    questions = train + test
    sentences = [s for q in questions for s in (*q.story, q.words)]
    answers = {q.answer for q in questions}
    vocabulary = {w: i for i, w in enumerate(sorted(answers.union(*sentences)))}
    longest = max(map(len, sentences)) + 1  # the released code counts the time word too
    slots = min(MEMORY, max(len(q.story) for q in questions))

    @functools.cache
    def bags(words: tuple[str, ...]) -> Tensor:
        return _bags(words, vocabulary, longest)

    def encode(part: list[Question]) -> Tensors:
        story = torch.zeros(len(part), slots, 2 * len(vocabulary))
        question = torch.zeros(len(part), 2 * len(vocabulary))
        for row, q in enumerate(part):
            question[row] = bags(q.words)
            for slot, sentence in enumerate(reversed(q.story[-slots:])):
                story[row, slot] = bags(sentence)
        length = torch.tensor([min(len(q.story), slots) for q in part])
        y = torch.tensor([vocabulary[q.answer] for q in part])
        return Tensors(story=story, question=question, length=length, y=y)

    kept = len(train) - len(train) // 10
    dims = {"words": len(vocabulary), "sentences": slots}
    return Splits(encode(train[:kept]), encode(test), encode(train[kept:]), dims)


def _bags(words: Sequence[str], vocabulary: dict[str, int], longest: int) -> Tensor:
    """(2 V,): counts of the words, then counts weighted by π_j = 2 (j - (J+1)/2) / J."""
    bags = torch.zeros(2, len(vocabulary))
    for position, word in enumerate(words, start=1):
        weight = 2 * (position - (longest + 1) / 2) / longest
        bags[:, vocabulary[word]] += torch.tensor([1.0, weight])
    return bags.flatten()


PEOPLE = ("mary", "john", "sandra", "daniel")
PLACES = ("kitchen", "garden", "office", "hallway", "bedroom", "bathroom")
OBJECTS = ("apple", "football", "milk")
VERBS = ("went", "moved", "journeyed")
TAKEN = ("took", "grabbed", "got")


def simulate(task: int, questions: int, rng: np.random.Generator) -> list[str]:
    """Lines of a bAbI file: stories of five questions, each asked after new events."""
    if task not in (1, 2):
        raise ValueError(f"there is a simulation of task 1 and of task 2, not of {task}")
    lines: list[str] = []
    for _ in range(questions // 5):
        where: dict[str, str] = {}
        carrier: dict[str, str] = {}
        number = 0
        for _ in range(5):
            events = _walk(where, rng, 2) if task == 1 else _errands(where, carrier, rng)
            for event in events:
                number += 1
                lines.append(f"{number} {event}.")
            asked = _pick(rng, sorted(where if task == 1 else carrier))
            answer = where[asked if task == 1 else carrier[asked]]
            number += 1
            lines.append(f"{number} Where is {'the ' * (task - 1)}{asked}? \t{answer}\t1")
    return lines


def _pick(rng: np.random.Generator, options: Sequence[str]) -> str:
    return options[int(rng.integers(len(options)))]


def _walk(where: dict[str, str], rng: np.random.Generator, moves: int) -> Iterator[str]:
    for _ in range(moves):
        person = _pick(rng, PEOPLE)
        where[person] = _pick(rng, [place for place in PLACES if place != where.get(person)])
        yield f"{person} {_pick(rng, VERBS)} to the {where[person]}"


def _errands(
    where: dict[str, str], carrier: dict[str, str], rng: np.random.Generator
) -> Iterator[str]:
    """A walk, somebody takes an object (from whoever has it), and another walk."""
    yield from _walk(where, rng, 1)
    person, thing = _pick(rng, sorted(where)), _pick(rng, OBJECTS)
    carrier[thing] = person
    yield f"{person} {_pick(rng, TAKEN)} the {thing}"
    yield from _walk(where, rng, 2)
