"""Where a reply begins and ends in the text of a template, and which replies the loss covers."""

from typing import Any

import pytest

from agent.data.own_template import OwnTemplate
from agent.data.rows import Comparison, Row, Turn
from agent.errors import TaskFailed
from agent.orders.on_base.answer import Question
from agent.train.data.rendering.templates import Renderer
from agent.train.local.answers import prompts_with_ends
from tests.support import chat_templates as templates
from tests.support.rendering import render
from tests.support.tiny import CHAT_TEMPLATE, byte_level_bpe
from tests.support.tokenizers import sentencepiece_style, wordpiece
from tests.train.data.tokenized import supervised_texts, tokenized

pytestmark = pytest.mark.train

BEFORE = (Turn("user", "Why?"), Turn("assistant", "the water rises"))
WITHOUT_PROMPT = CHAT_TEMPLATE.partition("{% if add_generation_prompt %}")[0]
ALWAYS_PROMPTS = WITHOUT_PROMPT + "{{ '<|im_start|>assistant\n' }}"
HEADER_IN_LOSS = (
    "the data: the template has no generation prompt, so the loss also covers what it puts before each reply, and "
    "the model generates that"
)
TRIMS = ": the template trims the completion, or changes white space in it, such as indentation"


def own(text: str) -> OwnTemplate:
    return OwnTemplate(name="own.jinja", text=text)


def learnt(text: str, *rows: Row | Comparison) -> tuple[list[list[str]], list[str]]:
    """The supervised texts of each row with a template, and the notices."""
    found, notices = tokenized(rows, own(text), byte_level_bpe())
    assert not any(row.error or row.skip_reason for row in found)
    return [supervised_texts(byte_level_bpe(), row.full[0]) for row in found], notices


# --- the beginning


@pytest.mark.parametrize("fussy", [False, True], ids=["", "takes no stand-ins"])
@pytest.mark.parametrize(
    ("opening", "completion"),
    [
        ("<think>\n", "<table>"),
        ("<think>\n", "<th"),
        ("<think>\n", "<thinking about it>"),
        ("<think>\n", "<"),
        ("Answer: ", "Answers vary"),
        ("Answer: ", "Answer"),
        ("\n\n", "\nline"),
    ],
)
def test_a_reply_that_begins_like_the_generation_prompt_is_supervised_from_its_first_character(
    opening: str, completion: str, fussy: bool
) -> None:
    prompt = (
        "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n" + opening.replace("\n", "\\n") + "' }}{% endif %}"
    )
    refuse = "{% if '\U000f0000' in messages[0]['content'] %}{{ raise_exception('odd') }}{% endif %}" if fussy else ""
    (texts,), _ = learnt(refuse + WITHOUT_PROMPT + prompt, Row("q", "", completion, BEFORE))
    assert texts[-1] == completion + "<|im_end|>"


def test_a_reply_that_repeats_the_whole_generation_prompt_continues_it() -> None:
    (texts,), _ = learnt(templates.THOUGHT_IN_THE_PROMPT, Row("q", "", "<think>\nten\n</think>36"))
    assert texts == ["ten\n</think>36<|im_end|>"]


def test_a_template_without_generation_prompt_is_noticed_once() -> None:
    rows = [Row("q", "", "so", BEFORE), Row("q", "", "no")]
    found, notices = learnt(WITHOUT_PROMPT, *rows)
    assert found[1] == ["<|im_start|>assistant\nno<|im_end|>"]
    assert notices == [HEADER_IN_LOSS]
    plain = "{% for m in messages %}{{ m['role'] }}: {{ m['content'] }}\n{% endfor %}"
    assert learnt(plain, Row("q", "", "so"))[1] == [HEADER_IN_LOSS]


@pytest.mark.parametrize(
    "text",
    [
        CHAT_TEMPLATE,
        templates.SYSTEM_IN_THE_LAST_PROMPT,  # has none, and needs none
        templates.THOUGHT_WRAPPED_AGAIN,
        templates.changing("'Sure: ' + m['content']"),
        ALWAYS_PROMPTS,
    ],
)
def test_a_template_that_puts_nothing_or_a_prompt_before_a_reply_is_not_noticed(text: str) -> None:
    assert learnt(text, Row("q", "", "so"))[1] == []


# --- the end


@pytest.mark.parametrize(
    "opening",
    ["<|im_start|>assistant\n", "<|im_start|>assistant\n<think>\n", "### assistant\n", "<|endoftext|>"],
)
def test_the_beginning_of_a_further_turn_at_the_end_of_a_text_is_not_supervised(opening: str) -> None:
    always = "{% for m in messages %}" + (
        "{% if m['role'] == 'assistant' %}{{ '"
        + opening.replace("\n", "\\n")
        + "' }}{% else %}{{ '<|im_start|>user\n' }}"
        "{% endif %}{{ m['content'] }}<|im_end|>\n{% endfor %}{{ '" + opening.replace("\n", "\\n") + "' }}"
    )
    found, notices = learnt(always, Row("q", "", "so", BEFORE), Row("q", "", "no"))
    assert found == [["the water rises<|im_end|>", "so<|im_end|>"], ["no<|im_end|>"]]
    assert notices == []
    (asked,) = prompts_with_ends([Question(prompt="q", input="")], own(always), byte_level_bpe())
    assert asked.end == byte_level_bpe().eos_token_id


def test_a_marker_that_ends_a_finished_conversation_alone_stays_supervised() -> None:
    (texts,), _ = learnt(templates.FURTHER_MARKER_AT_THE_END, Row("q", "", "so"))
    assert texts == ["so<|im_end|>\n<|endoftext|>"]


# --- white space


@pytest.mark.parametrize(
    "content", ["m['content'] | trim", "m['content'].split() | join(' ')", "m['content'].lstrip()"]
)
@pytest.mark.parametrize("completion", ["    return x\n", " x", "\tif y:\n\t\treturn"])
def test_white_space_that_a_template_takes_off_a_completion_is_counted(content: str, completion: str) -> None:
    rows = [Row("q", "", "so"), Row("q", "", completion), Comparison("q", "", ("so", completion))]
    _, notices = learnt(templates.changing(content), *rows)
    assert notices == [f"the data: line 2{TRIMS}, and 1 more"]


def test_white_space_that_a_template_takes_off_an_earlier_reply_is_counted() -> None:
    before = (Turn("user", "Why?"), Turn("assistant", "  indented"))
    _, notices = learnt(templates.changing("m['content'] | trim"), Row("q", "", "so", before))
    assert notices == [f"the data: line 1{TRIMS.replace('the completion', 'an earlier reply')}"]


def test_a_template_that_ends_a_reply_with_white_space_alone_trims_it() -> None:
    bare = "{% for m in messages %}{{ m['content'] }}\n{% endfor %}"
    assert learnt(bare, Row("q", "", "so\n"), Row("q", "", " so"))[1] == [f"the data: line 1{TRIMS}"]


@pytest.mark.parametrize("template", ["chat", "alpaca", "vicuna"])
def test_white_space_that_a_template_keeps_is_not_counted(template: Any) -> None:
    rows = [Row("q ", "", text) for text in ("  indented\n\n  more", "x\n", "\tx")]
    assert tokenized(rows, template, byte_level_bpe())[1] == []


@pytest.mark.parametrize("text", [templates.THOUGHT_WRAPPED_AGAIN, templates.THOUGHT_IN_THE_PROMPT])
def test_white_space_of_a_thought_that_a_template_writes_anew_is_not_counted(text: str) -> None:
    assert learnt(text, Row("q", "", "<think>\nten\n</think>\n\n36"))[1] == []


# --- which replies


@pytest.mark.parametrize("make", [byte_level_bpe, sentencepiece_style, wordpiece])
@pytest.mark.parametrize("system", [(), (Turn("system", "the winter stays"),)])
@pytest.mark.parametrize("template", ["chat", "alpaca", "vicuna"])
def test_a_reply_before_the_first_user_turn_is_not_supervised_and_counted_with_every_template(
    make: Any, system: tuple[Turn, ...], template: Any
) -> None:
    tokenizer = make()
    if template == "chat" and not tokenizer.chat_template:
        pytest.skip("has no chat template")
    opened = (*system, Turn("assistant", "the market"), Turn("assistant", "falls"))
    rows = [Row("the water", "", "rises", opened), Row("the water", "", "rises")]
    found, notices = tokenized(rows, template, tokenizer)
    assert [len(supervised_texts(tokenizer, row.full[0])) for row in found] == [1, 1]
    assert supervised_texts(tokenizer, found[0].full[0])[0].strip().startswith("rises")
    assert notices == ["the data: line 1: earlier replies are not supervised, 2 in all: no user turn precedes them"]
    assert tokenized([Row("q", "", "rises", opened, only_last=True)], template, tokenizer)[1] == []
    silent = tuple(Turn(turn.role, turn.text, supervised=False) for turn in opened)
    assert tokenized([Row("the water", "", "rises", silent)], template, tokenizer)[1] == []


@pytest.mark.parametrize("template", ["chat", "alpaca", "vicuna"])
@pytest.mark.parametrize("reply", ["", " ", "\n\t", "\u3000"])
def test_an_earlier_reply_of_white_space_is_not_supervised(template: Any, reply: str) -> None:
    row = Row("q", "", "so", (Turn("user", "Why?"), Turn("assistant", reply)))
    (found,), _ = tokenized([row], template, byte_level_bpe())
    assert [text.strip() for text in supervised_texts(byte_level_bpe(), found.full[0])] == ["so<|im_end|>"]


# --- templates that cannot be used


@pytest.mark.parametrize(
    "text",
    [
        "{{ messages | map(messages[0]['role']) | list }}",
        "{% set name = 'ran' ~ 'dom' %}{{ [messages] | map(name) | list }}",
        "{% set names = ['random'] %}{{ [messages] | map(*names) | list }}",
        "{% macro pick(how) %}{{ [messages] | map(how) | list }}{% endmacro %}{{ pick('random') }}",
    ],
)
def test_a_filter_whose_name_is_computed_is_refused(text: str) -> None:
    with pytest.raises(TaskFailed) as caught:
        Renderer(own(CHAT_TEMPLATE + text), byte_level_bpe())
    assert str(caught.value) == (
        "the template own.jinja computes the name of a filter (in map), which may draw at random: write the name as a "
        "text"
    )


def test_map_with_a_written_filter_or_an_attribute_is_used() -> None:
    text = "{{ messages | map(attribute='role') | map('upper') | join }}" + CHAT_TEMPLATE
    (exchange,) = render(Row("q", "", "a"), own(text), byte_level_bpe()).exchanges
    assert (
        exchange.prompt + exchange.answer
        == "USERASSISTANT<|im_start|>user\nq<|im_end|>\n<|im_start|>assistant\na<|im_end|>"
    )


def test_several_chat_templates_without_a_default_say_how_to_choose_one() -> None:
    tokenizer = byte_level_bpe()
    tokenizer.chat_template = {"tool_use": CHAT_TEMPLATE, "rag": CHAT_TEMPLATE}
    with pytest.raises(TaskFailed) as caught:
        render(Row("q", "", "a"), "chat", tokenizer)
    assert str(caught.value) == (
        "the base model's tokenizer has several chat templates (rag, tool_use), and none of them is called default: "
        "save one to a file, and name it by template in agent.toml"
    )
    tokenizer.chat_template = {"tool_use": "{{ 1 / 0 }}", "default": CHAT_TEMPLATE}
    assert render(Row("q", "", "a"), "chat", tokenizer).exchanges[0].answer == "a<|im_end|>"


@pytest.mark.parametrize("body", ["{% for a in range(99999) %}{% for b in range(99999) %}{% endfor %}{% endfor %}"])
def test_a_template_that_loops_is_refused_with_its_row(body: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("agent.train.data.rendering.time_limit.TIME_LIMIT_S", 1)
    tokenizer = byte_level_bpe()
    tokenizer.chat_template = CHAT_TEMPLATE + "{% if 'loop' in messages[0]['content'] %}" + body + "{% endif %}"
    first, second = tokenized([Row("q", "", "a"), Row("loop", "", "a")], "chat", tokenizer)[0]
    assert first.error == ""
    assert second.error.startswith(": the chat template takes more than")


def test_a_template_that_needs_more_memory_than_there_is_is_refused() -> None:
    tokenizer = byte_level_bpe()
    tokenizer.chat_template = CHAT_TEMPLATE + "{{ 'a' * 10 ** 17 }}"
    (row,), _ = tokenized([Row("q", "", "a")], "chat", tokenizer)
    assert row.error == ": the chat template needs more memory on a row than there is"
