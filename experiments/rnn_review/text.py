"""Text: words with their parts of speech, and characters of which each is to be foretold."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import torch
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from experiments.rnn_review.data import IGNORED
from harness.loading.readers import BadFormat
from harness.loading.splits import Batch, Splits
from harness.loading.splits import Tensors as TensorColumns
from harness.seeding import derive

UNKNOWN = 0  # a word, ending or tag that training does not know
SEEN = 2  # times that a word has to stand in training to have a vector of its own
ENDING = 3  # characters
Sentence = list[tuple[str, str]]  # words and tags


class Buckets:
    """A split of sentences in groups of about equal length; an example is a group.

    Groups are made once, and shuffled by training as wholes, so that little is padded. A batch
    has columns ``x``, ``suffix`` and ``y`` (sentences, T) and ``lengths`` (sentences,), padded to
    the longest; the targets of padding are not counted.

    Args:
        sentences: for each the rows words, endings and tags, (3, T).
        size: sentences of a group.
    """

    def __init__(self, sentences: Sequence[Tensor], size: int) -> None:
        by_length = sorted(sentences, key=lambda s: s.shape[1])
        self.groups = [by_length[k : k + size] for k in range(0, len(by_length), size)]

    def __len__(self) -> int:
        return len(self.groups)

    def __getitem__(self, indices: Tensor) -> Batch:
        chosen = [s.T for index in indices.tolist() for s in self.groups[index]]
        padded = pad_sequence(chosen, batch_first=True)
        lengths = torch.tensor([len(s) for s in chosen])
        x, suffix, y = padded.unbind(-1)
        y = y.masked_fill(torch.arange(y.shape[1]) >= lengths[:, None], IGNORED)
        return {"x": x, "suffix": suffix, "y": y, "lengths": lengths}


def english_web_treebank(root: Path, size: int = 32, limit: int | None = None) -> Splits:
    """Universal Dependencies English EWT: words and their universal tags, in its own split.

    Args:
        root: with ``en_ewt-ud-{train,dev,test}.conllu``.
        size: sentences a batch.
        limit: training sentences that are used; all, unless given.
    """
    train, val, test = (
        read_conllu(root / f"en_ewt-ud-{part}.conllu") for part in ("train", "dev", "test")
    )
    return tagged(train, val, test, size, limit)


def generated_sentences(
    seed: int, size: int = 32, limit: int | None = None, sentences: int = 3000
) -> Splits:
    """Sentences in which half of the words have two tags, and which of them the next word decides.

    Each of 100 plain words has one of 4 tags. Each of 100 others is a noun before a word with an
    even tag and a verb otherwise; what comes before says nothing.
    """
    generator = torch.Generator().manual_seed(derive(seed, "sentences"))

    def sentence(length: int) -> Sentence:
        words = torch.randint(200, (length + 1,), generator=generator).tolist()
        even = [word % 2 == 0 for word in words]
        kinds = [
            f"T{w % 4}" if w < 100 else "NV"[not even[k + 1]] for k, w in enumerate(words[:-1])
        ]
        return [(f"{word:03d}", kind) for word, kind in zip(words, kinds, strict=False)]

    lengths = torch.randint(5, 21, (sentences,), generator=generator).tolist()
    drawn = [sentence(length) for length in lengths]
    cut = sentences // 6
    return tagged(drawn[2 * cut :], drawn[:cut], drawn[cut : 2 * cut], size, limit)


def read_conllu(path: Path) -> list[Sentence]:
    """Words and universal tags of a CoNLL-U file; multi-word tokens and empty nodes are skipped.

    Raises:
        BadFormat: for a line that has not ten columns.
    """
    sentences: list[Sentence] = [[]]
    with path.open(encoding="utf-8") as file:
        for number, line in enumerate(file, 1):
            columns = line.rstrip("\n").split("\t")
            if line.startswith("#"):
                continue
            if columns == [""]:
                sentences.append([])
            elif len(columns) != 10:
                raise BadFormat(f"{path.name}, line {number}: {len(columns)} columns instead of 10")
            elif columns[0].isdigit():
                sentences[-1].append((columns[1], columns[3]))
    return [sentence for sentence in sentences if sentence]


def tagged(
    train: list[Sentence], val: list[Sentence], test: list[Sentence], size: int, limit: int | None
) -> Splits:
    """Sentences as numbers; what is known is what stands in the training part."""
    train = train[:limit]
    counts = Counter(word for sentence in train for word, _ in sentence)
    words = numbered(word for word, count in counts.items() if count >= SEEN)
    endings = numbered(word[-ENDING:].lower() for word in counts)
    tags = numbered(tag for sentence in train for _, tag in sentence)

    def rows(sentence: Sentence) -> Tensor:
        known = [
            (words.get(w, UNKNOWN), endings.get(w[-ENDING:].lower(), UNKNOWN), tags.get(t, UNKNOWN))
            for w, t in sentence
        ]
        return torch.tensor(known).T

    parts = [Buckets([rows(s) for s in part], size) for part in (train, test, val)]
    dims = {"symbols": len(words) + 1, "suffixes": len(endings) + 1, "outputs": len(tags) + 1}
    return Splits(parts[0], parts[1], parts[2], dims | {"features": 0})


def numbered(names: Iterable[str]) -> dict[str, int]:
    """Numbers from 1 on, in alphabetical order."""
    return {name: number for number, name in enumerate(sorted(set(names)), 1)}


@dataclass(frozen=True)
class Text(Splits):
    """Windows of characters, each with the next as its target; and the text that they are cut from.

    Attributes:
        beginning: characters of the training part (n,).
        end: of the test part.
    """

    beginning: Tensor = field(default_factory=lambda: torch.empty(0))
    end: Tensor = field(default_factory=lambda: torch.empty(0))


def tiny_shakespeare(root: Path, length: int = 100, limit: int | None = None) -> Text:
    """Characters of the file ``input.txt``: 85 % for training, 5 % for validation, 10 % for test.

    Args:
        root: the folder with the file.
        length: of training windows.
        limit: characters of training that are used; all, unless given.
    """
    text = (root / "input.txt").read_text(encoding="utf-8")
    places = {kind: place for place, kind in enumerate(sorted(set(text)))}
    return cut(torch.tensor([places[kind] for kind in text]), len(places), length, limit)


def generated_text(
    seed: int, length: int = 100, limit: int | None = None, characters: int = 200_000
) -> Text:
    """Brackets of four kinds, each closed by its own 10 to 30 letters later: beyond n-grams."""
    generator = torch.Generator().manual_seed(derive(seed, "brackets"))
    spans = characters // 12
    kinds = torch.randint(4, (spans,), generator=generator).tolist()
    lengths = torch.randint(10, 31, (spans,), generator=generator).tolist()
    letters = torch.randint(8, 16, (characters * 3,), generator=generator)
    pieces, place = [], 0
    for kind, inside in zip(kinds, lengths, strict=True):
        between = letters[place : place + inside]
        pieces += [torch.tensor([kind]), between, torch.tensor([kind + 4])]
        place += inside
    return cut(torch.cat(pieces)[:characters], 16, length, limit)


def cut(text: Tensor, kinds: int, length: int, limit: int | None) -> Text:
    """Windows of a text (n,); those of validation and test are 20 times as long.

    The first 85 % are for training, the last 10 % for the test, and what is between for validation.
    """
    first, second = int(0.85 * len(text)), int(0.9 * len(text))
    beginning, end = text[:first][:limit], text[second:]

    def windows(part: Tensor, steps: int) -> TensorColumns:
        count = (len(part) - 1) // steps
        x, y = (part[shift : shift + count * steps].view(count, steps) for shift in (0, 1))
        return TensorColumns(x=x, y=y)

    train, val = windows(beginning, length), windows(text[first:second], 20 * length)
    dims = {"symbols": kinds, "features": 0, "outputs": kinds}
    return Text(train, windows(end, 20 * length), val, dims, beginning=beginning, end=end)
