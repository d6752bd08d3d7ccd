"""Conversations as tokens: for three tokenizer families and every template, the loss covers exactly the replies."""

from itertools import groupby
from pathlib import Path
from typing import Any

import pytest

from agent.data.own_template import OwnTemplate, template_of
from agent.data.rows import Comparison, Row, Turn
from agent.data.source import DataSource
from agent.errors import TaskFailed
from agent.train.data.cache import DataCache
from agent.train.data.tokenizing import TextTokenizer
from agent.train.data.tokens import TokenRow, TokenRows
from shared.kinds import find
from shared.wire.tasks.leases import FailureKind
from tests.support.rendering import render
from tests.support.tiny import byte_level_bpe
from tests.support.tokenizers import sentencepiece_style, wordpiece
from tests.train.conftest import Lab, first_in_fast, write_rows

pytestmark = pytest.mark.train

SYSTEM = Turn("system", "the winter stays")
BEFORE = (
    Turn("user", "What does the water do ?"),
    Turn("assistant", "the water rises"),
    Turn("user", "What does the market do ?"),
    Turn("assistant", "the market falls and the bread grows"),
)
SHAPES = {
    "one turn": Row("What does the river do ?", "", "the river turns slowly"),
    "with input": Row("What does the river do ?", "Think of the school", "the river turns slowly"),
    "several turns": Row("What does the river do ?", "", "the river turns slowly", BEFORE),
    "system": Row("What does the river do ?", "", "the river turns slowly", (SYSTEM, *BEFORE)),
    "two turns of one role": Row("Why ?", "", "the river turns slowly", (*BEFORE, Turn("user", "again ?"))),
}
OWN = OwnTemplate(
    name="own.jinja",
    text="{% for m in messages %}<{{ m['role'] }}> {{ m['content'] }}{{ eos_token if m['role'] == 'assistant' }} "
    "{% endfor %}{% if add_generation_prompt %}<assistant> {% endif %}",
)
FORGETFUL = OwnTemplate(
    name="forgetful.jinja",
    text="{% for m in messages %}<{{ m['role'] }}> {% if m['role'] == 'assistant' and loop.last %}<thought> {% endif %}"
    "{{ m['content'] }}{{ eos_token if m['role'] == 'assistant' }} {% endfor %}"
    "{% if add_generation_prompt %}<assistant> {% endif %}",
)
TEMPLATES = {"alpaca": "alpaca", "vicuna": "vicuna", "chat": "chat", "own": OWN}


def tokens_of(tokenizer: Any, row: Row, template: Any, max_length: int = 4096) -> TokenRow:
    (token_row,) = TextTokenizer(tokenizer, max_length).rows([render(row, template, tokenizer)])
    assert token_row is not None
    return token_row


def spans(row: TokenRow) -> list[tuple[bool, list[int]]]:
    """Runs of tokens, each with whether it is supervised."""
    return [
        (supervised, [token for token, _ in run])
        for supervised, run in groupby(zip(*row, strict=True), key=lambda pair: pair[1])
    ]


def supervised_texts(tokenizer: Any, row: TokenRow) -> list[str]:
    """The text of each supervised run without its end marker; each run must have one."""
    texts = []
    for supervised, tokens in spans(row):
        if supervised:
            assert tokens[-1] == tokenizer.eos_token_id
            texts.append(tokenizer.decode(tokens[:-1]).removeprefix(" "))
    return texts


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("template", TEMPLATES)
def test_the_supervised_tokens_are_the_replies_each_with_its_end(tokenizer: Any, template: str, shape: str) -> None:
    if template == "chat" and not tokenizer.chat_template:
        pytest.skip("has no chat template")
    row = SHAPES[shape]
    token_row = tokens_of(tokenizer, row, TEMPLATES[template])
    replies = [turn.text for turn in row.turns if turn.role == "assistant"]
    texts = [tokenizer.decode(run) for supervised, run in spans(token_row) if supervised]
    end = tokenizer.eos_token
    has_ends = template != "chat" or end in tokenizer.chat_template
    supervised_replies = replies if has_ends else replies[-1:]
    assert texts == [text for text in texts if text.endswith(end)]
    assert [text.removesuffix(end).strip() for text in texts] == supervised_replies
    rest = "".join(tokenizer.decode(run) for supervised, run in spans(token_row) if not supervised)
    assert all(text not in rest for text in supervised_replies)
    for turn in row.turns:
        words = turn.text.replace("?", " ").split()
        assert turn.text in supervised_replies or all(word in rest for word in words)


@pytest.mark.parametrize("template", TEMPLATES)
def test_in_pairs_only_the_last_reply_is_supervised_after_the_same_prompt(tokenizer: Any, template: str) -> None:
    if template == "chat" and not tokenizer.chat_template:
        pytest.skip("has no chat template")
    pair = Comparison("What does the river do ?", "", ("the river turns", "slowly"), (SYSTEM, *BEFORE))
    chosen, rejected = (tokens_of(tokenizer, completion, TEMPLATES[template]) for completion in pair.completions)
    assert supervised_texts(tokenizer, chosen) == ["the river turns"]
    assert supervised_texts(tokenizer, rejected) == ["slowly"]
    (_, before), _ = spans(chosen)
    assert before == spans(rejected)[0][1]
    prompt = tokenizer.decode(before)
    assert all(turn.text.removesuffix(" ?") in prompt for turn in pair.before)


def test_several_turns_of_alpaca_and_vicuna_are_the_published_blocks() -> None:
    tokenizer = byte_level_bpe()
    row = Row("c", "d", "e", (Turn("user", "a"), Turn("assistant", "b")))
    text = tokenizer.decode(tokens_of(tokenizer, row, "alpaca")[0])
    _, _, turns = text.partition("\n\n")
    assert turns == (
        "### Instruction:\na\n\n### Response:\nb<|im_end|>\n\n"
        "### Instruction:\nc\n\n### Input:\nd\n\n### Response:\ne<|im_end|>"
    )
    text = tokenizer.decode(tokens_of(tokenizer, row, "vicuna")[0])
    opening = "gives helpful, detailed, and polite answers to the user's questions. "
    assert text.partition(opening)[2] == "USER: a ASSISTANT: b<|im_end|>USER: c\n\nd ASSISTANT: e<|im_end|>"
    system = Row("c", "", "e", (Turn("system", "Be brief."),))
    assert tokenizer.decode(tokens_of(tokenizer, system, "vicuna")[0]) == "Be brief. USER: c ASSISTANT: e<|im_end|>"
    assert tokenizer.decode(tokens_of(tokenizer, system, "alpaca")[0]).startswith("Be brief.\n\n### Instruction:\nc")


@pytest.mark.parametrize("make", first_in_fast([byte_level_bpe, sentencepiece_style, wordpiece]))
def test_a_template_that_renders_earlier_turns_differently_supervises_the_last_reply_only(make: Any) -> None:
    tokenizer = make()
    token_row = tokens_of(tokenizer, SHAPES["several turns"], FORGETFUL)
    (text,) = supervised_texts(tokenizer, token_row)
    assert text.endswith("the river turns slowly")
    assert len(spans(token_row)) == 2


def test_an_empty_earlier_reply_is_not_supervised() -> None:
    tokenizer = byte_level_bpe()
    row = Row("c", "", "e", (Turn("user", "a"), Turn("assistant", "")))
    for template in TEMPLATES.values():
        assert supervised_texts(tokenizer, tokens_of(tokenizer, row, template)) == ["e"]


def test_a_conversation_is_cut_at_its_end_and_keeps_the_replies_that_fit() -> None:
    tokenizer = byte_level_bpe()
    whole = tokens_of(tokenizer, SHAPES["several turns"], "chat")
    first = whole[1].index(True)
    assert supervised_texts(tokenizer, whole)[0] == "the water rises"
    cut = tokens_of(tokenizer, SHAPES["several turns"], "chat", max_length=first + 1)
    assert cut == (whole[0][: first + 1], whole[1][: first + 1])
    assert list(TextTokenizer(tokenizer, first).rows([render(SHAPES["several turns"], "chat", tokenizer)])) == [None]


def test_labels_and_counts_follow_every_reply() -> None:
    tokenizer = byte_level_bpe()
    row = tokens_of(tokenizer, SHAPES["several turns"], "chat")
    rows = TokenRows.of([row, tokens_of(tokenizer, SHAPES["one turn"], "chat")])
    assert rows.n_supervised.tolist() == [sum(row[1]), sum(tokens_of(tokenizer, SHAPES["one turn"], "chat")[1])]
    labels = rows.example(0)["labels"]
    assert [label for label in labels if label != -100] == [
        token for token, supervised in zip(*row, strict=True) if supervised
    ]


def test_a_template_that_refuses_a_row_names_the_roles_and_quotes_no_turn() -> None:
    tokenizer = byte_level_bpe()
    tokenizer.chat_template = "{{ raise_exception('no system: ' + messages[0]['content']) }}"
    with pytest.raises(TaskFailed) as caught:
        render(SHAPES["system"], "chat", tokenizer)
    assert caught.value.failure.kind is FailureKind.DATA
    assert caught.value.failure.message == (
        "the chat template refuses a row of these turns: system, user, assistant, user, assistant, user, assistant"
    )


@pytest.mark.parametrize("text", ["{{ messages[0]['content'] + 5 }}", "{{ 1 / 0 }}", "{{ '%d' % 'x' }}"])
def test_a_template_that_cannot_be_computed_refuses_the_row(text: str) -> None:
    with pytest.raises(TaskFailed, match="refuses a row of these turns: user"):
        render(SHAPES["one turn"], OwnTemplate(name="own.jinja", text=text), byte_level_bpe())


def test_an_error_in_an_own_template_is_reported_with_its_line(tmp_path: Path) -> None:
    path = tmp_path / "own.jinja"
    path.write_text("{% for m in messages %}\n{% endfo %}")
    own = template_of(DataSource(path=path, template=path), "chat")
    with pytest.raises(TaskFailed, match="an error in line 2"):
        render(SHAPES["one turn"], own, byte_level_bpe())
    with pytest.raises(TaskFailed, match=r"gone\.jinja cannot be read"):
        template_of(DataSource(path=path, template=tmp_path / "gone.jinja"), "chat")


def test_an_own_template_replaces_the_campaigns_and_a_changed_one_is_tokenised_again(lab: Lab, tmp_path: Path) -> None:
    path = tmp_path / "own.jinja"
    path.write_text(OWN.text)
    tokenizer = byte_level_bpe()

    def tokens(**source: Any) -> list[int]:
        cache, report = DataCache(), lambda _: None
        prepared = cache.prepare(
            lab.source(held_out=0.0, **source),
            "alpaca",
            400,
            tokenizer,
            lab.fingerprint,
            tmp_path,
            report,
            kind=find("sft"),
        )
        ids: list[int] = prepared.train.completions.example(0)["input_ids"]
        return ids

    assert tokenizer.decode(tokens(template=path)).startswith("<user> What does the water do")
    path.write_text(OWN.text.replace("<", "<<"))
    assert tokenizer.decode(tokens(template=path)).startswith("<<user> What does")
    assert tokenizer.decode(tokens()).startswith("Below is an instruction")


def test_conversations_are_trained_and_evaluated_on(lab: Lab, tmp_path: Path) -> None:
    """On every reply, as the numbers of tokens show."""
    conversations = [
        {"messages": [{"role": turn.role, "content": f"{turn.text} {n}"} for turn in SHAPES["several turns"].turns]}
        for n in range(20)
    ]
    source = DataSource(path=write_rows(tmp_path / "conversations.jsonl", conversations), held_out=0.2)
    adapter = lab.adapter_0()
    result = lab.run(lab.work(lab.train_job(adapter, max_length=400), data=source, adapter=adapter))
    assert result.metrics["train_loss_last"] is not None
    evaluated = lab.run(lab.work(lab.evaluate_job(adapter, max_length=400), data=source, adapter=adapter))
    data = DataCache().prepare(
        source, "chat", 400, byte_level_bpe(), lab.fingerprint, tmp_path, lambda _: None, kind=find("sft")
    )
    assert evaluated.metrics["held_out_tokens"] == int(data.held_out.completions.n_supervised.sum())
    assert evaluated.metrics["held_out_tokens"] > 3 * 5 * evaluated.metrics["held_out_rows"]


def test_pairs_of_transcripts_are_trained_and_evaluated_on(lab: Lab, tmp_path: Path) -> None:
    transcript = "\n\nHuman: What does the water do?\n\nAssistant: the water rises\n\nHuman: Why {}?\n\nAssistant: "
    pairs = [
        {"chosen": transcript.format(n) + "the river turns", "rejected": transcript.format(n) + "bread"}
        for n in range(20)
    ]
    source = DataSource(preset="hh-rlhf", path=write_rows(tmp_path / "pairs.jsonl", pairs), held_out=0.2)
    adapter = lab.adapter_0()
    job = {"training_kind": "dpo", "max_length": 200}
    result = lab.run(lab.work(lab.train_job(adapter, **job), data=source, adapter=adapter))
    assert result.metrics["train_loss_last"] is not None
    evaluated = lab.run(lab.work(lab.evaluate_job(adapter, **job), data=source, adapter=adapter))
    tokenizer = byte_level_bpe()
    supervised = sum(len(tokenizer(text)["input_ids"]) + 1 for text in ("the river turns", "bread"))
    assert evaluated.metrics["held_out_tokens"] == supervised * evaluated.metrics["held_out_rows"]
