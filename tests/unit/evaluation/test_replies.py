"""Replies on the disk: nothing is asked twice, and what a kill left is read."""

import json
import math
from pathlib import Path

import pytest

from fedloom.evaluation.asking.replies import ReplyStore, StoredModel
from fedloom.evaluation.asking.requests import Generate, Likelihood, Request, Scored, Text, digest_of
from tests.support.counting_model import CountingModel

ASKED = [Likelihood("a", f" {number}") for number in range(150)]


def stored(model: CountingModel, folder: Path) -> StoredModel:
    return StoredModel(model, ReplyStore(folder, model.facts))


def test_nothing_is_asked_twice(tmp_path: Path) -> None:
    model = CountingModel()
    first = stored(model, tmp_path).ask([*ASKED, ASKED[3]])
    assert first[3] == first[-1]
    assert len(model.asked) == len(ASKED)
    again = stored(model, tmp_path).ask(list(reversed(ASKED)))
    assert again == list(reversed(first[:-1]))
    assert len(model.asked) == len(ASKED)


@pytest.mark.parametrize("cut", [1, 7, 40])
def test_a_run_that_was_killed_goes_on(tmp_path: Path, cut: int) -> None:
    model = CountingModel()
    whole = stored(model, tmp_path).ask(ASKED)
    [file] = tmp_path.glob("*.jsonl")
    file.write_bytes(file.read_bytes()[:-cut])  # in the middle of the last line
    model.asked.clear()
    assert stored(model, tmp_path).ask(ASKED) == whole
    assert len(model.asked) == 1
    model.asked.clear()
    assert stored(model, tmp_path).ask(ASKED) == whole
    assert model.asked == [], "the line that was cut spoils no other"


def test_replies_are_stored_while_the_rest_is_asked(tmp_path: Path) -> None:
    model = CountingModel(dies_after=100)
    with pytest.raises(RuntimeError):
        stored(model, tmp_path).ask(ASKED)
    model.dies_after, n_before = None, len(model.asked)
    stored(model, tmp_path).ask(ASKED)
    assert len(model.asked) - n_before <= len(ASKED) - 64


def test_models_and_requests_do_not_share_replies(tmp_path: Path) -> None:
    base, adapted = CountingModel(), CountingModel(adapter_sha256="a" * 64)
    for model in (base, adapted):
        stored(model, tmp_path).ask(ASKED[:2])
        assert len(model.asked) == 2
    assert len(list(tmp_path.glob("*.jsonl"))) == 2
    different: list[Request] = [
        Likelihood("a", "b"),
        Likelihood("ab", ""),
        Generate("a"),
        Generate("a", stop=("b",)),
        Generate("a", max_new_tokens=3),
        Generate("a", temperature=0.5),
        Generate("a", seed=1),
        Generate("a", sample=1),
    ]
    assert len({digest_of(each) for each in different}) == len(different)


def test_a_line_that_does_not_fit_is_asked_anew(tmp_path: Path) -> None:
    model = CountingModel()
    asked: list[Request] = [Likelihood("a", "b"), Generate("a")]
    whole = [stored(model, tmp_path).ask([each])[0] for each in asked]
    [file] = tmp_path.glob("*.jsonl")
    lines = [json.loads(line) for line in file.read_text().split("\n") if line]
    first, second = ({**line, "request": digest_of(each)} for line, each in zip(lines, asked, strict=True))
    hostile = [
        {**first, "reply": {**first["reply"], **changes}}
        for changes in (
            {"log_prob": "0"},
            {"log_prob": None},
            {"log_prob": math.nan},
            {"n_tokens": 1.5},
            {"n_tokens": "2"},
            {"n_tokens": -1},
            {"n_cut": True},
            {"is_greedy": 1},
            {"problem": None},
            {"more": 1},
        )
    ]
    hostile += [{**second, "reply": {**second["reply"], **changes}} for changes in ({"text": 3}, {"text": ["a"]})]
    hostile += [
        {**first, "request": ["a"]},
        {**first, "kind": "text"},
        {**first, "kind": ["scored"]},
        {**first, "reply": []},
        {**second, "request": first["request"]},
        {**first, "request": second["request"]},
        {"request": first["request"]},
    ]
    raw = [b"[]", b"null", b"7", b"\xff\xfe", b"[" * 100_000, b'{"request": "' + b"a" * 64 + b'"}']
    for line in [*(json.dumps(each).encode() for each in hostile), *raw]:
        file.write_bytes(line)
        model.asked.clear()
        assert stored(model, tmp_path).ask(asked[:1]) + stored(model, tmp_path).ask(asked[1:]) == whole, line
        assert model.asked == asked, line
    file.write_bytes(b"\n".join(json.dumps(each).encode() for each in [*hostile, first, second]))
    model.asked.clear()
    assert stored(model, tmp_path).ask(asked[:1]) + stored(model, tmp_path).ask(asked[1:]) == whole
    assert model.asked == [], "a line that fits is read among others"


def test_progress_counts_what_was_known_before(tmp_path: Path) -> None:
    model = CountingModel()
    stored(model, tmp_path).ask(ASKED[:100])
    told: list[tuple[int, int]] = []
    again = stored(model, tmp_path)
    again.on_done = lambda done, total: told.append((done, total))
    again.ask(ASKED)
    assert told[0] == (100, 150)
    assert told[-1] == (150, 150)


def test_texts_and_scores_are_read_as_they_were(tmp_path: Path) -> None:
    model = CountingModel()
    asked = [Generate('Zürich\n\u2028 "x"')]
    [reply] = stored(model, tmp_path).ask(asked)
    assert isinstance(reply, Text)
    assert stored(model, tmp_path).ask(asked) == [reply]
    [scored] = stored(model, tmp_path).ask([Likelihood("a", "b")])
    assert isinstance(scored, Scored)
