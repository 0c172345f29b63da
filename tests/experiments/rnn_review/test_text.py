import pytest
import torch

from experiments.rnn_review.data import IGNORED
from experiments.rnn_review.text import (
    Buckets,
    english_web_treebank,
    generated_sentences,
    generated_text,
    read_conllu,
    tagged,
    tiny_shakespeare,
)
from harness.data.entries import entry
from harness.loading.readers import BadFormat

CONLLU = """\
# sent_id = 1
# text = I can't go
1\tI\tI\tPRON\tPRP\t_\t4\tnsubj\t_\t_
2-3\tcan't\t_\t_\t_\t_\t_\t_\t_\t_
2\tca\tcan\tAUX\tMD\t_\t4\taux\t_\t_
3\tn't\tnot\tPART\tRB\t_\t4\tadvmod\t_\t_
3.1\telided\t_\tVERB\t_\t_\t_\t_\t_\t_
4\tgo\tgo\tVERB\tVB\t_\t0\troot\t_\t_

1\tGo\tgo\tVERB\tVB\t_\t0\troot\t_\t_
2\t!\t!\tPUNCT\t.\t_\t1\tpunct\t_\t_

"""


def write(root, parts=("train", "dev", "test"), text=CONLLU):
    for part in parts:
        (root / f"en_ewt-ud-{part}.conllu").write_text(text, encoding="utf-8")


def test_a_treebank_is_read_word_by_word(tmp_path):
    write(tmp_path, ["train"])
    first, second = read_conllu(tmp_path / "en_ewt-ud-train.conllu")
    assert first == [("I", "PRON"), ("ca", "AUX"), ("n't", "PART"), ("go", "VERB")]
    assert second == [("Go", "VERB"), ("!", "PUNCT")]
    write(tmp_path, ["dev"], CONLLU.replace("\tPRP", ""))
    with pytest.raises(BadFormat, match="line 3"):
        read_conllu(tmp_path / "en_ewt-ud-dev.conllu")


def test_the_treebank_has_its_own_splits(tmp_path):
    write(tmp_path)
    files = {file.path for file in entry("ud-english-ewt").files}
    assert {path.name for path in tmp_path.iterdir()} <= files, "as the catalogue has them"
    write(tmp_path, ["test"], CONLLU.replace("Go", "Stay"))
    data = english_web_treebank(tmp_path)
    assert len(data.train) == len(data.test) == 1  # a group
    assert data.train[torch.tensor([0])]["lengths"].tolist() == [2, 4]
    assert data.dims["outputs"] == 1 + 5


def test_what_training_has_seen_once_or_never_is_unknown():
    train = [[("the", "DET"), ("cat", "NOUN")], [("the", "DET"), ("Concat", "X")]]
    data = tagged(train, train, [[("cat", "NOUN"), ("the", "DET"), ("zzz", "SYM")]], 2, None)
    batch = data.test[torch.tensor([0])]
    known = data.train[torch.tensor([0])]
    assert batch["x"].tolist() == [[0, 1, 0]]  # only "the" stands twice
    assert batch["suffix"][0, 0] == known["suffix"][0, 1] == known["suffix"][1, 1] > 0  # cat
    assert batch["suffix"][0, 2] == 0 and batch["y"][0, 2] == 0  # a tag that no output wins
    assert data.dims == {"symbols": 2, "suffixes": 3, "outputs": 4, "features": 0}


def test_sentences_are_grouped_by_length_and_padding_does_not_count():
    sentences = [torch.full((3, n), n) for n in (5, 1, 4, 2)]
    groups = Buckets(sentences, 2)
    assert len(groups) == 2
    batch = groups[torch.tensor([0])]
    assert batch["lengths"].tolist() == [1, 2]
    assert batch["y"].tolist() == [[1, IGNORED], [2, 2]]
    both = groups[torch.tensor([1, 0])]
    assert both["x"].shape == (4, 5) and both["lengths"].tolist() == [4, 5, 1, 2]
    assert (both["y"] != IGNORED).sum() == 12


def test_generated_tags_need_the_word_that_comes_next():
    data = generated_sentences(0, sentences=600)
    batch = data.train[torch.arange(len(data.train))]
    x, y = batch["x"], batch["y"]
    known = (y[:, :-1] != IGNORED) & (y[:, 1:] != IGNORED)
    ambiguous = known & ((y[:, :-1] == 1) | (y[:, :-1] == 6))  # N and V
    after = x[:, 1:][ambiguous]
    tags = y[:, :-1][ambiguous]
    for word in after.unique().tolist():  # the word after decides
        if word:
            assert tags[after == word].unique().numel() == 1
    assert 0.4 < float((tags == 1).double().mean()) < 0.6


def test_texts_are_cut_into_windows_whose_targets_come_next(tmp_path):
    text = "".join(chr(97 + (k * k) % 7) for k in range(4000))
    (tmp_path / "input.txt").write_text(text, encoding="utf-8")
    data = tiny_shakespeare(tmp_path, length=10)
    for split, start, steps in ((data.train, 0, 10), (data.val, 3400, 200), (data.test, 3600, 200)):
        x, y = split.columns["x"], split.columns["y"]
        assert x.shape[1] == steps
        letters = sorted(set(text))
        assert "".join(letters[k] for k in x.flatten()) == text[start : start + x.numel()]
        assert "".join(letters[k] for k in y.flatten()) == text[start + 1 : start + 1 + x.numel()]
    assert len(data.beginning) == 3400 and len(data.end) == 400
    assert len(tiny_shakespeare(tmp_path, 10, limit=100).beginning) == 100


def test_generated_brackets_close_what_was_opened():
    text = generated_text(0, characters=5000).beginning
    open_, places = [], []
    for place, kind in enumerate(text.tolist()):
        if kind < 4:
            open_.append((kind, place))
        elif kind < 8:
            opened, at = open_.pop()
            assert opened == kind - 4
            places.append(place - at)
    assert min(places) == 11 and max(places) == 31
