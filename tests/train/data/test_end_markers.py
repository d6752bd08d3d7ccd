"""The last supervised token of a whole completion ends it: the end-of-sequence token, or the template's own marker."""

from typing import Any

import pytest

from agent.data.own_template import OwnTemplate
from agent.data.rows import Row, Turn
from agent.orders.on_base.answer import Question
from agent.train.data.control_tokens import ControlTokens
from agent.train.data.tokenizing import TextTokenizer
from agent.train.local.answers import prompts_with_ends
from tests.support import chat_templates as templates
from tests.support.rendering import render
from tests.support.tiny import byte_level_bpe
from tests.support.tokenizers import sentencepiece_style, wordpiece
from tests.train.data.tokenized import supervised_texts, tokenized

pytestmark = pytest.mark.train

MAKERS = [byte_level_bpe, sentencepiece_style, wordpiece]
BARE = OwnTemplate(
    name="bare.jinja",
    text="{% for m in messages %}{{ m['role'] }} : {{ m['content'] }} {% endfor %}"
    "{% if add_generation_prompt %}assistant : {% endif %}",
)
WITH_EOS = OwnTemplate(
    name="eos.jinja",
    text="{% for m in messages %}{{ m['role'] }} : {{ m['content'] }}{{ eos_token if m['role'] == 'assistant' }} "
    "{% endfor %}{% if add_generation_prompt %}assistant : {% endif %}",
)
TEMPLATES = ["alpaca", "vicuna", BARE, WITH_EOS]
COMPLETIONS = [
    "the river turns slowly",
    "the river turns 🙂",  # unknown to a word tokenizer
    "🙂",
    "漢字",
    "done<unk>",
    "done[UNK]",
    "done<s>",
    "done[CLS]",
    "done[MASK]",
    "done<|im_start|>",
    "done<|endoftext|>",
    "done<|im_end|>",
    "done</s>",
    "done[SEP]",
    "done<mask>",
]


def last_supervised(tokenizer: Any, row: Row, template: Any) -> int:
    (tokens,) = TextTokenizer(tokenizer, 4096).rows([render(row, template, tokenizer)])
    assert tokens is not None
    ids, supervised = tokens
    assert supervised[-1]
    return ids[-1]


@pytest.mark.parametrize("template", [*TEMPLATES, "chat"], ids=str)
@pytest.mark.parametrize("make", MAKERS)
def test_every_completion_ends_with_the_end_of_sequence_token(make: Any, template: Any) -> None:
    tokenizer = make()
    if template == "chat" and not tokenizer.chat_template:
        pytest.skip("has no chat template")
    if not tokenizer.mask_token:
        tokenizer.add_special_tokens({"mask_token": "<mask>"})
    for completion in COMPLETIONS:
        assert last_supervised(tokenizer, Row("What?", "", completion), template) == tokenizer.eos_token_id, completion


@pytest.mark.parametrize("make", MAKERS)
def test_a_special_token_of_the_owners_text_at_its_end_is_no_end_of_a_chat(make: Any) -> None:
    """``<eot>`` could be a template's end marker, but the template did not put it there."""
    tokenizer = make()
    tokenizer.add_special_tokens({"additional_special_tokens": ["<eot>"]})
    for template in (*TEMPLATES, "alpaca"):
        row = Row("What?", "", "done<eot>")
        assert last_supervised(tokenizer, row, template) == tokenizer.eos_token_id


@pytest.mark.parametrize("make", MAKERS)
def test_the_templates_own_end_marker_ends_a_completion_and_no_second_one_follows(make: Any) -> None:
    tokenizer = make()
    tokenizer.add_special_tokens({"additional_special_tokens": ["<eot>"]})
    template = OwnTemplate(name="eot.jinja", text=WITH_EOS.text.replace("eos_token", "'<eot>'"))
    end = tokenizer.convert_tokens_to_ids("<eot>")
    for completion in COMPLETIONS[:4]:
        before = (Turn("user", "Why?"), Turn("assistant", completion))
        row = Row("What?", "", completion, before)
        assert last_supervised(tokenizer, row, template) == end
        (found,), _ = tokenized([row], template, tokenizer)
        ids, supervised = found.full[0]
        assert sum(token == end and covered for token, covered in zip(ids, supervised, strict=True)) == 2
        assert tokenizer.eos_token_id not in ids[2:]


@pytest.mark.parametrize("template", [*TEMPLATES, "chat"], ids=str)
@pytest.mark.parametrize("make", MAKERS)
def test_chat_asks_with_the_prompt_of_training_and_ends_with_its_end_marker(make: Any, template: Any) -> None:
    """Also where the tokenizer does not know the placeholder that stands for the answer."""
    tokenizer = make()
    if template == "chat" and not tokenizer.chat_template:
        pytest.skip("has no chat template")
    (prompt,) = prompts_with_ends([Question(prompt="What?", input="a river")], template, tokenizer)
    (row,), _ = tokenized([Row("What?", "a river", "the river turns")], template, tokenizer)
    ids, supervised = row.full[0]
    assert (prompt.tokens, prompt.end) == (ids[: supervised.index(True)], ids[-1])


def test_the_end_of_sequence_token_in_the_text_is_not_doubled() -> None:
    tokenizer = byte_level_bpe()
    for template in ("alpaca", "vicuna", BARE):
        (row,), _ = tokenized([Row("What?", "", "done<|im_end|>")], template, tokenizer)
        (text,) = supervised_texts(tokenizer, row.full[0])
        assert text.removeprefix(" ") == "done<|im_end|>"


@pytest.mark.parametrize("make", MAKERS)
def test_earlier_replies_that_no_end_marker_follows_are_not_supervised_and_counted(make: Any) -> None:
    tokenizer = make()
    before = tuple(Turn(role, "the water rises") for _ in range(2) for role in ("user", "assistant"))  # type: ignore[arg-type]
    rows = [Row("What?", "", "the river turns", before)] * 3 + [Row("What?", "", "the river")]
    found, notices = tokenized(rows, BARE, tokenizer)
    assert [len(supervised_texts(tokenizer, row.full[0])) for row in found] == [1, 1, 1, 1]
    assert notices == [
        "the data: line 1: earlier replies are not supervised, 6 in all: no end marker follows them in the template, "
        "and 2 more"
    ]
    found, notices = tokenized(rows, WITH_EOS, tokenizer)
    assert [len(supervised_texts(tokenizer, row.full[0])) for row in found] == [3, 3, 3, 1]
    assert notices == []


def test_unknown_beginning_and_masked_tokens_are_no_end_markers_unless_one_token_is_both() -> None:
    tokenizer = sentencepiece_style()
    assert ControlTokens(tokenizer).end_ids == {tokenizer.eos_token_id}
    tokenizer = byte_level_bpe()
    tokenizer.bos_token = tokenizer.unk_token = tokenizer.eos_token  # as GPT-2 has it
    assert tokenizer.eos_token_id in ControlTokens(tokenizer).end_ids


def test_generation_tags_change_nothing() -> None:
    tokenizer = byte_level_bpe()
    before = (Turn("user", "Why?"), Turn("assistant", "the water rises"))
    row = Row("What?", "", "the river turns", before)
    tagged = OwnTemplate(name="tagged.jinja", text=templates.GENERATION_TAGS)
    (with_tags,), _ = tokenized([row], tagged, tokenizer)
    (without,), _ = tokenized([row], "chat", tokenizer)
    assert with_tags.full == without.full


@pytest.mark.parametrize("pad", ["<|im_end|>", None])
def test_a_padding_token_that_ends_texts_or_is_missing_changes_no_token(pad: str | None) -> None:
    tokenizer = byte_level_bpe()
    (usual,), _ = tokenized([Row("What?", "", "the river turns")], "chat", tokenizer)
    tokenizer.pad_token = pad
    (row,), _ = tokenized([Row("What?", "", "the river turns")], "chat", tokenizer)
    assert row.full == usual.full
    (text,) = supervised_texts(tokenizer, row.full[0])
    assert text == "the river turns<|im_end|>"


def test_a_beginning_that_template_and_tokenizer_both_put_comes_once() -> None:
    tokenizer = sentencepiece_style()
    template = OwnTemplate(name="bos.jinja", text="{{ bos_token }}" + WITH_EOS.text)
    (row,), _ = tokenized([Row("What?", "", "the river turns")], template, tokenizer)
    ids, _ = row.full[0]
    assert ids[0] == tokenizer.bos_token_id
    assert ids.count(tokenizer.bos_token_id) == 1
