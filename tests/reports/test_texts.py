"""Templates and tokenizers: what is learnt is the completion with its end marker, and nothing is added or lost."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from agent.data.rows import Comparison, Row, Turn
from agent.train.base.model import load_tokenizer
from agent.train.data.tokenizing import TextTokenizer
from tests.support.rendering import render
from tests.support.tiny import CHAT_TEMPLATE, byte_level_bpe
from tests.support.tokenizers import sentencepiece_style
from tests.train.data.tokenized import tokenized

pytestmark = pytest.mark.train

TEXT = "the water  rises\n\tand x != y , 3.14 é 漢 🙂"


def learnt(tokenizer: Any, row: Row, template: Any = "chat") -> str:
    """The text of the tokens that the loss covers."""
    [(tokens, supervised)] = TextTokenizer(tokenizer, 4096).full_rows([render(row, template, tokenizer)])
    covered = [token for token, flag in zip(tokens, supervised, strict=True) if flag]
    text: str = tokenizer.decode(covered, clean_up_tokenization_spaces=False)
    return text


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder with a byte-level tokenizer and the configuration of a Llama."""
    byte_level_bpe().save_pretrained(tmp_path)
    (tmp_path / "config.json").write_text('{"model_type": "llama", "vocab_size": 320}')
    return tmp_path


def edit(path: Path, **changes: Any) -> None:
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


def test_the_end_of_a_turn_is_learnt_where_it_is_not_the_end_of_sequence_token() -> None:
    tokenizer = byte_level_bpe()
    tokenizer.eos_token = tokenizer.pad_token = "<|endoftext|>"
    assert learnt(tokenizer, Row("q", "", "hello")) == "hello<|im_end|>", "and no further token follows"
    before = (Turn("user", "a"), Turn("assistant", "b"))
    assert learnt(tokenizer, Row("q", "", "hello", before)) == "b<|im_end|>hello<|im_end|>"


@pytest.mark.parametrize("name", ["LlamaTokenizerFast", "LlamaTokenizer", "PreTrainedTokenizerFast", "GPT2Tokenizer"])
def test_the_class_that_a_tokenizer_names_does_not_change_its_tokens(folder: Path, name: str) -> None:
    expected = byte_level_bpe()(TEXT)["input_ids"]
    edit(folder / "tokenizer_config.json", tokenizer_class=name)
    tokenizer = load_tokenizer(folder, remote_code=False)
    assert tokenizer(TEXT)["input_ids"] == expected
    assert learnt(tokenizer, Row("q", "", TEXT)) == f"{TEXT}<|im_end|>"


def test_truncation_and_padding_of_a_stored_tokenizer_cut_and_add_nothing(folder: Path) -> None:
    tokenizer = load_tokenizer(folder, remote_code=False)
    tokenizer.backend_tokenizer.enable_truncation(8)
    tokenizer.backend_tokenizer.enable_padding(length=64)
    tokenizer.backend_tokenizer.save(str(folder / "tokenizer.json"))
    edit(folder / "tokenizer_config.json", model_max_length=8)
    stored = json.loads((folder / "tokenizer.json").read_text())
    assert stored["truncation"]["max_length"] == 8
    tokenizer = load_tokenizer(folder, remote_code=False)
    row = Row("a prompt of more than eight tokens", "", TEXT)
    assert learnt(tokenizer, row) == f"{TEXT}<|im_end|>"
    [(tokens, _)] = TextTokenizer(tokenizer, 4096).full_rows([render(row, "chat", tokenizer)])
    assert tokenizer.pad_token_id not in tokens


@pytest.mark.parametrize("family", [byte_level_bpe, sentencepiece_style])
def test_spaces_before_punctuation_are_learnt_and_shown(family: Callable[[], Any]) -> None:
    tokenizer = family()
    tokenizer.clean_up_tokenization_spaces = True
    assert learnt(tokenizer, Row("q", "", TEXT), "alpaca") == TEXT + tokenizer.eos_token


def test_a_system_turn_of_the_template_is_in_neither_completion_of_a_pair() -> None:
    tokenizer = byte_level_bpe()
    default = "{% if messages[0]['role'] != 'system' %}<|im_start|>system\nBe kind.<|im_end|>\n{% endif %}"
    tokenizer.chat_template = default + CHAT_TEMPLATE
    [row], _ = tokenized([Comparison("q", "", ("good", "bad"))], "chat", tokenizer)
    prompts, covered = set(), []
    for tokens, supervised in row.full:
        start = supervised.index(True)
        prompts.add(tokenizer.decode(tokens[:start]))
        covered.append(tokenizer.decode(tokens[start:]))
    assert covered == ["good<|im_end|>", "bad<|im_end|>"]
    [prompt] = prompts
    assert prompt.count("Be kind.") == 1


def test_equal_turns_of_one_role_in_a_row_are_all_in_the_prompt() -> None:
    tokenizer = byte_level_bpe()
    text = render(Row("second", "", "hello", (Turn("user", "first"), Turn("user", "first"))), "chat", tokenizer)
    assert text.exchanges[0].prompt.count("first") == 2
    assert learnt(tokenizer, Row("second", "", "hello", (Turn("user", "first"),))) == "hello<|im_end|>"
