"""Real slices of the data sets that people fine-tune on: every shape is read, and the loss covers the replies."""

from itertools import groupby
from pathlib import Path
from typing import Any

import pytest

from agent.checking import gather
from agent.reading import read_rows
from agent.rows import Pair, Row
from agent.settings import DataSource
from shared.campaign import TrainingKind
from tests.real.conftest import SHARED

pytestmark = pytest.mark.train

DATA = SHARED / "data"
FPB = {"separator": "@", "encoding": "ISO-8859-1"}
QA = {"prompt": "question", "completion": "answer"}
SLICES: dict[str, tuple[str, TrainingKind, dict[str, Any], int]] = {
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
    "mts-dialog": (
        "medical/mts_dialog/MTS-Dialog-TrainingSet.csv",
        "sft",
        {"prompt": "dialogue", "completion": "section_text"},
        1201,
    ),
    "hh-rlhf": ("dpo/hh_rlhf/harmless-base_first1500.jsonl", "dpo", {"preset": "hh-rlhf"}, 1500),
    "hh-rlhf, chosen": ("dpo/hh_rlhf/harmless-base_first1500.jsonl", "sft", {"messages": "chosen"}, 1500),
    "ultrafeedback": ("dpo/ultrafeedback/train_clean.jsonl", "dpo", {"preset": "ultrafeedback"}, 900),
    "dpo_en_demo": ("dpo/dpo_en_demo.json", "dpo", {}, 300),
    "fedllm-bench": ("fedllm_bench/Fed-ChatbotPA_local_154.json", "dpo", {}, 154),
}


def source_of(name: str) -> tuple[DataSource, TrainingKind, int]:
    path, kind, settings, records = SLICES[name]
    return DataSource(path=DATA / path, **settings), kind, records


@pytest.mark.parametrize("name", SLICES)
def test_every_record_is_a_row_or_is_counted(name: str) -> None:
    source, kind, records = source_of(name)
    found = gather(source, kind)
    assert found.n_errors == 0, [str(problem) for problem in found.problems]
    assert found.records == records
    assert len(found.train) + len(found.held_out) + found.left_out.total() == records
    assert found.left_out.total() <= 8
    assert not {one.row for one in found.train} & {one.row for one in found.held_out}


def test_transcripts_hold_their_prompt_and_all_turns_before() -> None:
    source, kind, _ = source_of("hh-rlhf")
    rows = read_rows(source, kind).rows
    assert sum(len(row.before) >= 2 for row in rows) > 1000
    for row in rows:
        assert isinstance(row, Pair)
        assert not any("\n\nHuman:" in text or "\n\nAssistant:" in text for text in (row.prompt, row.chosen))


@pytest.fixture(scope="session")
def smollm2_tokenizer(smollm2: Path) -> Any:
    from transformers import AutoTokenizer

    return AutoTokenizer.from_pretrained(smollm2)


@pytest.mark.parametrize("template", ["alpaca", "vicuna", "chat"])
@pytest.mark.parametrize("name", SLICES)
def test_the_supervised_tokens_of_smollm2_are_exactly_the_replies(
    smollm2_tokenizer: Any, name: str, template: Any
) -> None:
    from agent.train.templates import render
    from agent.train.tokens import Tokenizing

    source, kind, _ = source_of(name)
    rows = [row for row in read_rows(source, kind).rows if all(side.completion for side in row.sides)]
    sides: list[Row] = [side for row in rows[:: max(1, len(rows) // 60)] for side in row.sides]
    tokenizing = Tokenizing(smollm2_tokenizer, 1 << 20)
    for side, tokens in zip(
        sides, tokenizing.rows([render(side, template, smollm2_tokenizer) for side in sides]), strict=True
    ):
        assert tokens is not None
        runs = groupby(zip(*tokens, strict=True), key=lambda token: token[1])
        texts = [smollm2_tokenizer.decode([token for token, _ in run]) for learnt, run in runs if learnt]
        replies = [turn.text for turn in side.turns if turn.role == "assistant"]
        wanted = replies[-1:] if side.only_last else [reply for reply in replies if reply]
        space = " " if template == "vicuna" else ""
        assert texts == [f"{space}{reply}<|im_end|>" for reply in wanted]
