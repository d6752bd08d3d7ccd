"""Rows as tokens: the border between prompt and completion, the split, and the cache."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from agent.data.held_out import is_held_out
from agent.data.rows import Row
from agent.errors import TaskFailed
from agent.train.data.cache import DataCache
from agent.train.data.rendering.texts import Exchange, Text
from agent.train.data.tokenizing import TextTokenizer
from agent.train.data.tokens import IGNORED, TokenRows
from shared.campaign.spec import DataSection
from shared.kinds import find
from shared.wire.tasks.leases import FailureKind, Phase
from shared.wire.tasks.results import Fingerprint
from tests.support.rendering import render
from tests.support.tokenizers import sentencepiece_style
from tests.train.conftest import ROWS, Lab, byte_level_bpe, first_in_fast, supervised_from, write_rows

pytestmark = pytest.mark.train

FINGERPRINT = Fingerprint(weights="1" * 64, config="2" * 64, tokenizer="3" * 64, template="4" * 64)


def tokens_of(tokenizer: Any, row: Row, template: Any, max_length: int = 4096) -> tuple[list[int], int]:
    (token_row,) = TextTokenizer(tokenizer, max_length).rows([render(row, template, tokenizer)])
    assert token_row is not None
    return start_of(token_row)


def start_of(row: tuple[list[int], list[bool]]) -> tuple[list[int], int]:
    """A row's tokens, and the index from which all of them are supervised."""
    tokens, supervised = row
    start = supervised.index(True)
    assert row == supervised_from(tokens, start)
    return tokens, start


@pytest.mark.parametrize("template", ["alpaca", "vicuna", "chat"])
@pytest.mark.parametrize("number", range(0, 80, 9))
def test_the_supervised_tokens_are_the_completion_and_the_end_marker(
    tokenizer: Any, template: str, number: int
) -> None:
    if template == "chat" and not tokenizer.chat_template:
        pytest.skip("has no chat template")
    columns = ROWS[number]
    row = Row(columns["instruction"], columns["input"], columns["output"])
    tokens, start = tokens_of(tokenizer, row, template)
    assert tokenizer.decode(tokens[start:-1]).removeprefix(" ") == row.completion
    assert tokens[-1] == tokenizer.eos_token_id
    prompt = tokenizer.decode(tokens[:start])
    assert row.completion not in prompt
    assert row.prompt.split()[-2] in prompt
    assert all(word in prompt for word in row.input.split()[:2])


@pytest.mark.parametrize("completion", ["", " ", "\n", "\n\nx", "  two spaces", "é 漢字 🙂", "x\n", "don't", "<", "."])
@pytest.mark.parametrize("make", first_in_fast([byte_level_bpe, sentencepiece_style]))
def test_no_token_spans_the_border_whatever_the_completion_begins_with(
    make: Callable[[], Any], completion: str
) -> None:
    tokenizer = make()
    for prompt in ("### Response:\n", "ASSISTANT:", "x"):
        (token_row,) = TextTokenizer(tokenizer, 4096).rows([Text((Exchange(prompt, completion + "z"),), plain=True)])
        assert token_row is not None
        tokens, start = start_of(token_row)
        assert tokenizer.decode(tokens, skip_special_tokens=True) == prompt + completion + "z"
        assert tokenizer.decode(tokens[start:-1]).lstrip(" ") == (completion + "z").lstrip(" ")


def test_special_tokens_come_once(tokenizer: Any) -> None:
    row = Row("What now?", "", "the river turns")
    tokens, _ = tokens_of(tokenizer, row, "alpaca")
    first_ids = [token for token in (tokenizer.bos_token_id, tokenizer.cls_token_id) if token is not None]
    assert tokens[: len(first_ids)] == first_ids
    rest = tokens[len(first_ids) : -1]
    assert not set(rest) & set(tokenizer.all_special_ids) - {tokenizer.unk_token_id}


def test_sentencepiece_completions_are_tokenised_as_continuations() -> None:
    tokenizer = sentencepiece_style()
    row = Row("What?", "", "river turns")
    tokens, start = tokens_of(tokenizer, row, "alpaca")
    assert not tokenizer.convert_ids_to_tokens(tokens[start]).startswith("▁")  # a newline precedes it, not a space
    tokens, start = tokens_of(tokenizer, row, "vicuna")
    first = tokenizer.convert_ids_to_tokens(tokens[start])
    assert first.startswith("▁")
    assert first != "▁▁"


def test_a_chat_template_without_end_marker_gets_one(tokenizer: Any) -> None:
    row = Row("What?", "", "the river")
    original = tokenizer.chat_template
    tokenizer.chat_template = (
        "{% for m in messages %}{{ m['role'] }} {{ m['content'] }} {% endfor %}"
        "{% if add_generation_prompt %}assistant {% endif %}"
    )
    try:
        tokens, start = tokens_of(tokenizer, row, "chat")
    finally:
        tokenizer.chat_template = original
    assert tokens[-1] == tokenizer.eos_token_id
    assert tokenizer.decode(tokens[start:-1]).strip() == "the river"


def test_a_chat_template_that_renders_answered_prompts_differently_keeps_the_answer_whole() -> None:
    tokenizer = byte_level_bpe()
    tokenizer.chat_template = (
        "{% for m in messages %}<|im_start|>{{ m['role'] }}\n"
        "{% if m['role'] == 'assistant' %}<think>\n\n</think>\n\n{% endif %}{{ m['content'] }}<|im_end|>\n{% endfor %}"
        "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
    )
    tokens, start = tokens_of(tokenizer, Row("What?", "", "the river"), "chat")
    assert tokenizer.decode(tokens[start:]) == "<think>\n\n</think>\n\nthe river<|im_end|>"


def test_long_rows_are_cut_at_the_end_and_hopeless_ones_dropped() -> None:
    tokenizer = byte_level_bpe()
    whole, start = tokens_of(tokenizer, Row("What?", "", "the river turns slowly"), "vicuna")
    cut, same = tokens_of(tokenizer, Row("What?", "", "the river turns slowly"), "vicuna", max_length=start + 1)
    assert (cut, same) == (whole[: start + 1], start)
    text = render(Row("What?", "", "the river turns slowly"), "vicuna", tokenizer)
    assert list(TextTokenizer(tokenizer, start).rows([text])) == [None]


def test_labels_cover_exactly_the_supervised_tokens() -> None:
    rows = TokenRows.of([([5, 6, 7, 8], [False, True, False, True]), ([9, 10], [False, True]), ([4], [False])])
    assert rows.lengths.tolist() == [4, 2, 1]
    assert rows.n_supervised.tolist() == [2, 1, 0]
    assert rows.example(0) == {"input_ids": [5, 6, 7, 8], "labels": [IGNORED, 6, IGNORED, 8]}
    assert rows.example(1) == {"input_ids": [9, 10], "labels": [IGNORED, 10]}
    some = rows.take(np.array([1, 0, 1]))
    assert [some.example(index) for index in range(3)] == [rows.example(index) for index in (1, 0, 1)]


def test_the_split_stays_when_rows_are_added_and_keeps_duplicates_together() -> None:
    rows = [Row(f"p{i}", "", f"c{i}") for i in range(2000)]
    held_out = [is_held_out(row, 0.1) for row in rows]
    assert 150 < sum(held_out) < 250
    assert held_out == [is_held_out(row, 0.1) for row in [*rows, Row("new", "", "row")][: len(rows)]]
    assert all(is_held_out(Row(f"p{i}", "", f"c{i}"), 0.1) == held_out[i] for i in range(2000))
    wider = [is_held_out(row, 0.3) for row in rows]
    assert all(in_wider for in_first, in_wider in zip(held_out, wider, strict=True) if in_first)
    assert not any(is_held_out(row, 0.0) for row in rows)


def prepare(lab: Lab, cache: DataCache, folder: Path, report: Any = lambda _: None, **source: Any) -> Any:
    return cache.prepare(
        lab.source(**source), "chat", 96, byte_level_bpe(), FINGERPRINT, folder, report, kind=find("sft")
    )


def test_tokens_are_cached_in_memory_and_on_disk(lab: Lab, tmp_path: Path) -> None:
    cache, reports = DataCache(), []
    first = prepare(lab, cache, tmp_path, reports.append)
    assert reports[0].phase == Phase.TOKENIZING
    assert (reports[-1].done, reports[-1].total) == (80, 80)
    reports.clear()
    assert prepare(lab, cache, tmp_path, reports.append) is first
    again = prepare(lab, DataCache(), tmp_path, reports.append)
    assert reports == []
    assert again.dropped == first.dropped
    for again_rows, first_rows in ((again.train, first.train), (again.held_out, first.held_out)):
        assert again_rows.sha256 == first_rows.sha256
        for part in ("ids", "offsets", "supervised"):
            np.testing.assert_array_equal(getattr(again_rows.completions, part), getattr(first_rows.completions, part))


def test_a_spoilt_cache_file_is_made_again(lab: Lab, tmp_path: Path) -> None:
    first = prepare(lab, DataCache(), tmp_path)
    (path,) = tmp_path.glob("tokens-*.npz")
    path.write_bytes(path.read_bytes()[:100])
    again = prepare(lab, DataCache(), tmp_path)
    np.testing.assert_array_equal(again.train.completions.ids, first.train.completions.ids)


def test_changed_data_is_tokenised_again(lab: Lab, tmp_path: Path) -> None:
    path = write_rows(tmp_path / "rows.jsonl", ROWS[:10])
    cache = DataCache()
    before = prepare(lab, cache, tmp_path, path=path, held_out=0.0)
    write_rows(path, ROWS[:11])
    after = prepare(lab, cache, tmp_path, path=path, held_out=0.0)
    assert (len(before.train), len(after.train)) == (10, 11)


def test_a_file_of_held_out_rows_is_never_trained_on(lab: Lab, tmp_path: Path) -> None:
    held_out = write_rows(tmp_path / "held.jsonl", ROWS[5:8])
    data = prepare(lab, DataCache(), tmp_path, held_out_path=held_out)
    assert (len(data.train), len(data.held_out)) == (77, 3)


def failure(lab: Lab, **changes: Any) -> tuple[FailureKind, str]:
    job = lab.prepare_job(**{key: changes.pop(key) for key in ("max_length",) if key in changes})
    with pytest.raises(TaskFailed) as caught:
        lab.run(lab.work(job, **changes))
    return caught.value.failure.kind, caught.value.failure.message


def test_no_data_source_of_that_name_says_what_to_add(lab: Lab) -> None:
    kind, message = failure(lab, data=None)
    assert kind == FailureKind.DATA
    assert "[data.d]" in message


def test_rows_that_are_all_too_long_are_a_failure(lab: Lab) -> None:
    kind, message = failure(lab, max_length=8)
    assert kind == FailureKind.DATA
    assert (
        "data.d: no row can be used: 80 rows are skipped: no room for its completion in 8 tokens (80); `fedloom"
        in message
    )


def test_if_no_row_is_left_every_reason_is_named_with_its_count(lab: Lab, tmp_path: Path) -> None:
    rows = [("q", "")] * 2 + [("q " * 99, f"SECRET {n}") for n in range(3)] + [("", "a")]
    path = write_rows(tmp_path / "rows.jsonl", [{"instruction": prompt, "output": text} for prompt, text in rows])
    source = lab.source(path=path, input=None)
    _, message = failure(lab, data=source, max_length=30)
    assert message == (
        "data.d: no row can be used: 6 rows are skipped: no room for its completion in 30 tokens (3), "
        "an empty completion (2), an "
        "empty prompt (1); `fedloom agent check-data` shows the reasons"
    )


def test_if_all_usable_rows_are_held_out_the_message_says_so(lab: Lab, tmp_path: Path) -> None:
    empty = write_rows(tmp_path / "rows.jsonl", [{"instruction": "q", "input": "", "output": ""}] * 2)
    held_out = write_rows(tmp_path / "held.jsonl", ROWS[:3])
    _, message = failure(lab, data=lab.source(path=empty, held_out_path=held_out))
    assert message == (
        "data.d: no row is left to train on: 3 are held out, 2 rows are skipped: an empty completion (2)"
    )


def test_empty_completions_are_dropped_and_counted(lab: Lab, tmp_path: Path) -> None:
    path = write_rows(tmp_path / "rows.jsonl", [*ROWS[:4], {"instruction": "x", "input": "", "output": ""}])
    result = lab.run(lab.work(lab.prepare_job(), data=lab.source(path=path, held_out=0.0)))
    assert (result.n_train, result.n_held_out, result.dropped) == (4, 0, 1)


def test_a_tokenizer_without_chat_template_asks_for_another_template() -> None:
    with pytest.raises(TaskFailed, match="alpaca or vicuna"):
        render(Row("p", "", "c"), "chat", sentencepiece_style())


def test_an_unforeseen_error_leaves_without_its_text(lab: Lab, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    def explode(*_: Any) -> Any:
        raise KeyError("SECRET")

    monkeypatch.setattr("agent.data.reading.skip_reason", explode)
    kind, message = failure(lab, cache=tmp_path, max_length=95)
    assert kind == FailureKind.CRASH
    assert "KeyError" in message
    assert "SECRET" not in message


def test_template_and_length_have_caches_of_their_own(lab: Lab, tmp_path: Path) -> None:
    for template in ("chat", "alpaca"):
        lab.run(
            lab.work(lab.prepare_job(data=DataSection(name="d", template=template), max_length=300), cache=tmp_path)
        )
    assert len(list(tmp_path.glob("tokens-*.npz"))) == 2
    assert json.loads((tmp_path / "digests.json").read_text())
