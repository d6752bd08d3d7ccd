"""Every character of a completion is in the text that the loss covers, or the row is an error, or it is counted."""

from pathlib import Path
from typing import Any

import pytest

from agent.data.own_template import OwnTemplate
from agent.data.rows import Comparison, Row, Turn
from agent.train.data.row_tokenizer import TokenizedRow
from tests.support import chat_templates as templates
from tests.support.tiny import byte_level_bpe
from tests.train.data.tokenized import supervised_texts, tokenized

pytestmark = pytest.mark.train

THOUGHT = "<think>\nten threes are thirty\n</think>\n\n36"
DROPPED = (
    ": the template drops part of the completion, or changes it: use another template, or allow it by "
    "template_may_drop = true in the data table"
)


def one(text: str, *rows: Row | Comparison, **settings: Any) -> tuple[list[TokenizedRow], list[str]]:
    """Some rows with a template, and the notices on them."""
    return tokenized(rows, OwnTemplate(name="own.jinja", text=text), byte_level_bpe(), **settings)


@pytest.mark.parametrize(
    ("text", "completion", "supervised"),
    [
        (templates.THOUGHT_WRAPPED_AGAIN, THOUGHT, THOUGHT),
        (templates.THOUGHT_WRAPPED_AGAIN, "36", "<think>\n\n</think>\n\n36"),
        (templates.THOUGHT_IN_THE_PROMPT, THOUGHT, "ten threes are thirty\n</think>\n\n36"),
        (templates.THOUGHT_CUT_OFF, "36", "36"),
        (templates.WITH_DATE, "  36 \n", "36"),
        (templates.SYSTEM_IN_THE_LAST_PROMPT, THOUGHT, " " + THOUGHT),
        (templates.GENERATION_TAGS, THOUGHT, THOUGHT),
        (templates.changing("m['content'].split() | join(' ')"), "a\n  b", "a b"),
        (templates.changing("'Sure: ' + m['content'] + ' (end)'"), "36", "Sure: 36 (end)"),
        (templates.changing("m['content'] | trim"), "end", "end"),
        (templates.changing("'im: ' + m['content']"), "im", "im: im"),
        (templates.changing("m['content'] + ('!' if 'x' in m['content'] else '.')"), "6 x 6", "6 x 6!"),
        (templates.changing("'Sure: ' + m['content'] + ('!' if 'x' in m['content'] else '.')"), "x", "Sure: x!"),
    ],
)
def test_a_template_that_wraps_trims_or_spaces_a_completion_anew_keeps_it(
    text: str, completion: str, supervised: str
) -> None:
    (row,), notices = one(text, Row("twelve times three?", "", completion))
    assert not row.error
    assert supervised_texts(byte_level_bpe(), row.truncated[0]) == [supervised + "<|im_end|>"]
    assert not [notice for notice in notices if "drops" in notice]


@pytest.mark.parametrize(
    ("text", "completion"),
    [
        (templates.THOUGHT_CUT_OFF, THOUGHT),
        (templates.THOUGHT_CUT_OFF, "<think>only a thought</think>"),
        (templates.changing("m['content'] | lower"), "No"),
        (templates.changing("m['content'][:10]"), "more than ten characters"),
        (templates.changing("m['content'] | truncate(12)"), "more than ten characters"),
        (templates.changing("m['content'] | e"), "a < b"),
        (templates.changing("m['content'] | tojson"), 'he said "no"'),
        (templates.changing("m['content'] | replace('x', '')"), "6 x 6"),
        (templates.changing("m['content'] | capitalize"), "iPhone"),
        (templates.changing("''"), "end"),  # the end marker holds the same letters
        (templates.changing("''"), "assistant"),  # and so does the prompt
        (templates.changing("'im: '"), "im"),
        (templates.changing("'Answer: ' + m['content'] | lower"), "Answer"),
        (templates.changing("m['content'] | lower + ' Yes'"), "Yes"),
    ],
)
def test_a_template_that_drops_or_changes_part_of_a_completion_refuses_the_row(text: str, completion: str) -> None:
    (good, bad), _ = one(text, Row("q", "", "1"), Row("twelve times three?", "", completion))
    assert good.error == "" or "''" in text or "'im: '" in text
    assert bad.error == DROPPED


def test_characters_that_a_template_would_change_elsewhere_do_not_refuse_a_row() -> None:
    for text in ("m['content'] | lower", "m['content'] | e", "m['content'][:10]"):
        (row,), _ = one(templates.changing(text), Row("WHAT < 1?", "", "no"))
        assert not row.error


def test_an_earlier_reply_of_which_a_part_is_missing_refuses_the_row() -> None:
    before = (Turn("user", "twelve times three?"), Turn("assistant", THOUGHT))
    (row,), _ = one(templates.THOUGHT_CUT_OFF, Row("and once more?", "", "72", before))
    assert row.error.startswith(": the template drops part of an earlier reply, or changes it")
    (row,), notices = one(templates.THOUGHT_CUT_OFF, Row("and?", "", "72", before, only_last=True))
    assert not row.error
    assert notices == ["the data: line 1: the template drops part of an assistant turn, or changes it"]


def test_the_rejected_completion_of_a_pair_must_be_whole_too() -> None:
    (row,), _ = one(templates.THOUGHT_CUT_OFF, Comparison("q", "", ("36", THOUGHT)))
    assert row.error == DROPPED


def test_the_owner_may_allow_it_and_then_it_is_counted() -> None:
    rows = [Row("q", "", text) for text in (THOUGHT, "36", THOUGHT + "0", "<think>only a thought</think>")]
    found, notices = one(templates.THOUGHT_CUT_OFF, *rows, template_may_drop=True)
    assert [row.skip_reason for row in found] == ["", "", "", "a completion that the template drops"]
    assert supervised_texts(byte_level_bpe(), found[0].truncated[0]) == ["\n\n36<|im_end|>"]
    assert notices == [
        "the data: line 1: the template drops part of the completion, or changes it, and 1 more",
    ]


def test_prompts_that_a_template_does_not_read_are_counted() -> None:
    system = (Turn("system", "Be brief."),)
    _, notices = one(templates.WITHOUT_SYSTEM, *(Row("What?", "", "so", system) for _ in range(3)), Row("q", "", "a"))
    assert notices == ["the data: line 1: the template drops a system turn, and 2 more"]
    short = templates.WITHOUT_SYSTEM.replace("m['content'] }}", "m['content'][:20] }}")
    _, notices = one(short, Row("a question of many characters?", "", "so"))
    assert notices == ["the data: line 1: the template drops part of a user turn, or changes it"]


def test_rows_whose_prompt_the_template_would_bring_into_the_loss_are_refused() -> None:
    system = (Turn("system", "Be brief."),)
    (row,), _ = one(templates.SYSTEM_IN_THE_LAST_PROMPT, Row("What?", "", "so", system))
    assert row.error == (
        ": the template renders a prompt differently once it is answered, so the loss would cover part of the prompt: "
        "use another template"
    )


def test_a_reply_that_begins_like_the_rest_of_the_prompt_by_chance_is_supervised_from_its_start() -> None:
    """The prompt ends in ``<think>``, which the template leaves out once the prompt is answered."""
    (row,), _ = one(templates.THOUGHT_CUT_OFF, Row("q", "", "<b>36</b>"))
    assert supervised_texts(byte_level_bpe(), row.truncated[0]) == ["<b>36</b><|im_end|>"]


@pytest.mark.parametrize("template", ["alpaca", "vicuna"])
def test_the_built_in_templates_leave_nothing_out(template: Any) -> None:
    before = (Turn("system", "Be brief."), Turn("user", "Why?"), Turn("assistant", THOUGHT))
    rows = [Row("WHAT < 1?", "in", THOUGHT, before)]
    (row,), notices = tokenized(rows, template, byte_level_bpe())
    assert (row.error, notices) == ("", [])
    text = byte_level_bpe().decode(row.full[0][0])
    assert all(turn.text in text for turn in before)


def test_a_template_file_with_a_byte_order_mark_is_read(tmp_path: Path) -> None:
    path = tmp_path / "own.jinja"
    path.write_bytes(b"\xef\xbb\xbf{{ messages[0]['content'] }}")
    assert OwnTemplate.read(path).text.startswith("{{")


def test_white_space_alone_is_no_missing_text() -> None:
    (row,), notices = one(templates.WITH_DATE, Row("q", "", " \n"))
    assert not row.error
    assert not [notice for notice in notices if "drops" in notice]
