"""Slices of real data sets for fine-tuning: every shape is read, and the loss covers the replies."""

import csv
import json
from datetime import date
from itertools import groupby, product
from pathlib import Path
from typing import Any

import pytest

from agent.data.checks.checking import collect
from agent.data.reading import read_rows
from agent.data.rows import Comparison, Row
from agent.data.source import DataSource
from agent.train.base.limits import NO_LIMITS, read_limits
from agent.train.data.row_tokenizer import BATCH, RowTokenizer
from agent.train.data.tokenizing import TextTokenizer
from agent.train.data.tokens import TokenRow
from shared.kinds import find
from tests.real.conftest import SHARED
from tests.support.rendering import render
from tests.support.tokenizers import sentencepiece_style, wordpiece

pytestmark = pytest.mark.train

DATA = SHARED / "data"
FPB = {"separator": "@", "encoding": "ISO-8859-1"}
MTS = {"prompt": "dialogue", "completion": "section_text"}
QA = {"prompt": "question", "completion": "answer"}
REBUILT = "fingpt.jsonl"
"""Not a stored file: the fixture ``fingpt`` makes it."""
SLICES: dict[str, tuple[str, str, dict[str, Any], int]] = {
    "alpaca": ("alpaca/alpaca_data_1k.json", "sft", {"preset": "alpaca"}, 1000),
    "alpaca-gpt4": ("alpaca_gpt4/alpaca_en_demo.json", "sft", {"preset": "alpaca-gpt4"}, 999),
    "code-alpaca": ("code/code_alpaca_2k.json", "sft", {"preset": "code-alpaca"}, 2017),
    "medical-flashcards": ("medical/medical_meadow_small.json", "sft", {"preset": "medical-flashcards"}, 4700),
    "mathinstruct, messages": ("math/mathinstruct_first100.jsonl", "sft", {}, 100),
    "tora, messages": ("math/tora_examples.jsonl", "sft", {}, 30),
    "gsm8k": ("math/gsm8k_train.jsonl", "sft", QA, 5000),
    "medquad": ("natural/medquad/medquad_9sources.jsonl", "sft", QA, 1080),
    "phrasebank": ("finance/fpb/Sentences_AllAgree.txt", "sft", FPB, 2264),
    "phrasebank, half agree": ("finance/fpb/Sentences_50Agree.txt", "sft", FPB, 4846),
    "tfns": ("finance/tfns/sent_train.csv", "sft", {"prompt": "text", "completion": "label"}, 9543),
    "aqua, test": ("math/aqua_test.json.jsonl", "sft", {"prompt": "question", "completion": "rationale"}, 254),
    "aqua": ("math/aqua_dev.json.jsonl", "sft", {"prompt": "question", "completion": "rationale"}, 254),
    "mts-dialog": ("medical/mts_dialog/MTS-Dialog-TrainingSet.csv", "sft", MTS, 1201),
    "mts-dialog, validation": ("medical/mts_dialog/MTS-Dialog-ValidationSet.csv", "sft", MTS, 100),
    "mts-dialog, test": ("medical/mts_dialog/MTS-Dialog-TestSet-1-MEDIQA-Chat-2023.csv", "sft", MTS, 200),
    "fingpt": (REBUILT, "sft", {"preset": "fingpt-sentiment"}, 4846 + 9543),
    "hh-rlhf": ("dpo/hh_rlhf/harmless-base_first1500.jsonl", "dpo", {"preset": "hh-rlhf"}, 1500),
    "hh-rlhf, chosen": ("dpo/hh_rlhf/harmless-base_first1500.jsonl", "sft", {"messages": "chosen"}, 1500),
    "ultrafeedback": ("dpo/ultrafeedback/train_clean.jsonl", "dpo", {"preset": "ultrafeedback"}, 900),
    "ultrafeedback, held out": ("dpo/ultrafeedback/eval_clean.jsonl", "dpo", {"preset": "ultrafeedback"}, 200),
    "dpo_en_demo": ("dpo/dpo_en_demo.json", "dpo", {}, 300),
    "fedllm-bench": ("fedllm_bench/Fed-ChatbotPA_local_154.json", "dpo", {}, 154),
}

NOTICES: dict[str, list[str]] = {
    "medical-flashcards": ["1 column is not read: 'instruction'"],  # the preset leaves it out: the same in each row
    "mathinstruct, messages": ["1 column is not read: 'id'"],
    "tora, messages": ["5 columns are not read: 'dataset', 'level', 'id', 'gt', 'gt_cot'"],
    "medquad": ["5 columns are not read: 'source', 'focus', 'qtype', 'url', 'doc'"],
    "phrasebank": ["line 38 has no separator, and so no completion"],  # it is "1", a rest of a table
    # a tweet of several lines, one of which is "- Dow up 1,131.98 points": two cells
    "tfns": [
        "line 414 has control characters",
        "the record on lines 7110 to 7113 has a cell of several lines, one of which looks like a record",
    ],
    "fingpt": ["line 5257 has control characters"],  # of the tweets
    "aqua, test": ["2 columns are not read: 'options', 'correct'"],
    "aqua": ["2 columns are not read: 'options', 'correct'"],
    "mts-dialog": ["2 columns are not read: 'ID', 'section_header'"],
    "mts-dialog, validation": ["2 columns are not read: 'ID', 'section_header'"],
    "mts-dialog, test": ["2 columns are not read: 'ID', 'section_header'"],
    "hh-rlhf, chosen": ["1 column is not read: 'rejected'"],
    # "Porter's" with an apostrophe of cp1252
    "ultrafeedback": ["line 631 has control characters", "2 columns are not read: 'source_index', 'metadata'"],
    "ultrafeedback, held out": ["2 columns are not read: 'source_index', 'metadata'"],
    "dpo_en_demo": ["row 16 has control characters"],  # dashes of UTF-8 that was read as latin-1
}
"""What is not read of each slice; nothing of the others."""

SPECIAL_TOKENS = {
    ("smollm2", "Fed-ChatbotPA_local_154.json"): ("row 148", 4),  # <|endoftext|>
    ("sentencepiece", "train_clean.jsonl"): ("line 227", 1),  # </s>
}
"""The slices whose texts hold special tokens of a tokenizer: the first such row, and the number of others."""


@pytest.fixture(scope="session")
def fingpt(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """FinGPT's training set in its own columns, rebuilt from two of its source data sets."""
    news = (DATA / "finance/fpb/Sentences_50Agree.txt").read_text(encoding="ISO-8859-1").splitlines()
    rows = [("news", *line.rsplit("@", 1)) for line in news]
    with (DATA / "finance/tfns/sent_train.csv").open(encoding="utf-8", newline="") as file:
        labels = ("negative", "positive", "neutral")  # bearish, bullish, neutral
        rows += [("tweet", row["text"], labels[int(row["label"])]) for row in csv.DictReader(file)]
    ask = "What is the sentiment of this {}? Please choose an answer from {{negative/neutral/positive}}."
    path = tmp_path_factory.mktemp("fingpt") / REBUILT
    path.write_text(
        "".join(
            json.dumps({"instruction": ask.format(what), "input": text, "output": label}) + "\n"
            for what, text, label in rows
        )
    )
    return path


@pytest.fixture(params=SLICES)
def slice_of(request: pytest.FixtureRequest, fingpt: Path) -> tuple[DataSource, str, int]:
    """A slice: an owner's settings for it, its kind of training, and its number of records."""
    return opened(request.param, fingpt)


def opened(name: str, fingpt: Path) -> tuple[DataSource, str, int]:
    path, kind, settings, records = SLICES[name]
    return DataSource(path=fingpt if path == REBUILT else DATA / path, **settings), kind, records


def test_every_record_is_a_row_or_is_counted(slice_of: tuple[DataSource, str, int]) -> None:
    source, kind, records = slice_of
    found = collect(source, find(kind))
    assert found.errors.total == 0, [str(problem) for problem in found.errors.problems]
    assert found.records == records
    assert len(found.train) + len(found.held_out) + found.skipped.total() == records
    assert found.skipped.total() <= 8
    assert not {record.row for record in found.train} & {record.row for record in found.held_out}


@pytest.mark.parametrize("name", SLICES)
def test_what_is_not_read_is_noticed_and_nothing_else(name: str, fingpt: Path) -> None:
    source, kind, _ = opened(name, fingpt)
    found = [str(problem).removeprefix(f"{source.label}: ") for problem in collect(source, find(kind)).notices.problems]
    expected = NOTICES.get(name, [])
    assert len(found) == len(expected), found
    assert all(notice.startswith(start) for notice, start in zip(found, expected, strict=True)), found


def test_fingpts_question_and_news_are_the_prompt(fingpt: Path) -> None:
    rows = read_rows(DataSource(path=fingpt, preset="fingpt-sentiment"), find("sft")).rows
    assert {row.completion for row in rows} == {"negative", "neutral", "positive"}
    assert {row.prompt for row in rows} == {
        f"What is the sentiment of this {what}? Please choose an answer from {{negative/neutral/positive}}."
        for what in ("news", "tweet")
    }
    assert all(row.input for row in rows)


def test_mathinstruct_asks_each_question_once(tmp_path: Path) -> None:
    path, kind, _, records = SLICES["mathinstruct, messages"]
    asked = [(row.prompt, row.completion) for row in read_rows(DataSource(path=DATA / path), find(kind)).rows]
    own = tmp_path / "MathInstruct.json"  # in the preset's columns, each question with a second answer
    doubled = [*asked, *((question, f"In code: {answer}") for question, answer in asked)]
    own.write_text(json.dumps([{"source": "x", "instruction": q, "output": a} for q, a in doubled]))
    found = read_rows(DataSource(path=own, preset="math-instruct"), find(kind))
    first: dict[str, str] = {}
    for question, answer in asked:
        first.setdefault(question, answer)
    assert [(row.prompt, row.completion) for row in found.rows] == list(first.items())
    assert found.skipped.total() == 2 * records - len(found.rows)


def test_transcripts_hold_their_prompt_and_all_turns_before() -> None:
    path, kind, settings, _ = SLICES["hh-rlhf"]
    rows = read_rows(DataSource(path=DATA / path, **settings), find(kind)).rows
    assert sum(len(row.before) >= 2 for row in rows) > 1000
    for row in rows:
        assert isinstance(row, Comparison)
        assert not any("\n\nHuman:" in text or "\n\nAssistant:" in text for text in (row.prompt, row.answers[0]))


def sample_completions(source: DataSource, kind: str) -> list[Row]:
    """About sixty rows spread over the file; of a pair, both completions."""
    rows = [
        row
        for row in read_rows(source, find(kind)).rows
        if all(completion.completion for completion in row.completions)
    ]
    return [completion for row in rows[:: max(1, len(rows) // 60)] for completion in row.completions]


@pytest.fixture(scope="session")
def tokenizers(smollm2: Path, fingpt: Path) -> dict[str, Any]:
    """Tokenizers of three families: SmolLM2's byte-level BPE, and two that are trained on the sampled rows."""
    from transformers import AutoTokenizer

    corpus = [
        turn.text
        for source, kind, _ in (opened(name, fingpt) for name in SLICES)
        for row in sample_completions(source, kind)
        for turn in row.turns
    ]
    return {
        "smollm2": AutoTokenizer.from_pretrained(smollm2),
        "sentencepiece": sentencepiece_style(corpus, vocab_size=4000),
        "wordpiece": wordpiece(corpus, vocab_size=8000),
    }


def supervised_texts(tokenizer: Any, row: TokenRow) -> list[str]:
    """The text that each run of supervised tokens adds to the text before it."""
    tokens, supervised = row
    found, begin = [], 0
    for is_supervised, run in groupby(supervised):
        end = begin + len(list(run))
        if is_supervised:
            before, text = tokenizer.decode(tokens[:begin]), tokenizer.decode(tokens[:end])
            assert text.startswith(before)
            found.append(text[len(before) :])
        begin = end
    return found


@pytest.mark.parametrize(
    ("family", "template"),
    [
        *product(("smollm2", "sentencepiece", "wordpiece"), ("alpaca", "vicuna")),
        *product(("smollm2", "wordpiece"), ("chat",)),
    ],
)
def test_the_supervised_tokens_are_exactly_the_replies(
    tokenizers: dict[str, Any], family: str, slice_of: tuple[DataSource, str, int], template: Any
) -> None:
    tokenizer = tokenizers[family]
    source, kind, _ = slice_of
    completions = sample_completions(source, kind)
    token_rows = TextTokenizer(tokenizer, 1 << 20).rows([render(row, template, tokenizer) for row in completions])
    space = " " if template == "vicuna" else ""
    for row, tokens in zip(completions, token_rows, strict=True):
        assert tokens is not None
        replies = [turn.text for turn in row.turns if turn.role == "assistant"]
        wanted = replies[-1:] if row.only_last else [reply for reply in replies if reply]
        if family == "wordpiece":  # drops white space; its chat template ends only the whole text
            ended = wanted[-1:] if template == "chat" else wanted
            whole = [f"{reply}{tokenizer.eos_token}" for reply in ended]
            assert [bare(text) for text in supervised_texts(tokenizer, tokens)] == [bare(text) for text in whole]
        else:
            whole = [f"{space}{reply}{tokenizer.eos_token}" for reply in wanted]
            assert supervised_texts(tokenizer, tokens) == whole


@pytest.mark.parametrize(
    ("family", "template"),
    [("smollm2", "chat"), ("smollm2", "vicuna"), ("sentencepiece", "vicuna")],
)
def test_nothing_of_a_slice_is_left_out_or_changed_unless_a_notice_counts_it(
    smollm2: Path,
    tokenizers: dict[str, Any],
    slice_of: tuple[DataSource, str, int],
    family: str,
    template: Any,
) -> None:
    source, kind, _ = slice_of
    found = collect(source, find(kind))
    limits = read_limits(smollm2) if family == "smollm2" else NO_LIMITS
    tokenizing = RowTokenizer(source, template, 512, tokenizers[family], limits, date(2026, 1, 31))
    for rows in (found.train, found.held_out):
        for begin in range(0, len(rows), BATCH):
            assert not [row.error for row in tokenizing.tokenize(rows[begin : begin + BATCH]) if row.error]
    what = "a special token of the tokenizer in its text, which acts as a control token"
    assert tokenizing.notices().public == [
        f"the data: {place} has {what}, and {n} more"
        for (of_family, label), (place, n) in SPECIAL_TOKENS.items()
        if (of_family, label) == (family, source.label)
    ]


def bare(text: str) -> str:
    return "".join(text.split())
