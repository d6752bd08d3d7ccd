"""What a template, a tokenizer or a base model cannot do with a row is said with its file and line, in all jobs."""

from pathlib import Path
from typing import Any

import pytest
import torch
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

from agent.data.own_template import OwnTemplate
from agent.data.rows import Comparison, Row, Turn
from agent.data.source import DataSource
from agent.errors import TaskFailed
from agent.orders.check import CheckRequest
from agent.orders.on_base.model import LocalModel
from agent.train.base.limits import InputLimits
from shared.campaign.spec import BaseSection
from shared.wire.tasks.leases import FailureKind
from tests.support import chat_templates as templates
from tests.support.tiny import CHAT_TEMPLATE, byte_level_bpe
from tests.train.conftest import Lab, write_rows
from tests.train.data.tokenized import supervised_texts, tokenized

pytestmark = pytest.mark.train

SYSTEM = {"role": "system", "content": "Be brief."}
NO_SYSTEM = "{% if messages[0]['role']=='system' %}{{ raise_exception('no') }}{% endif %}" + CHAT_TEMPLATE
BEFORE = tuple(Turn(role, "the water rises") for _ in range(2) for role in ("user", "assistant"))  # type: ignore[arg-type]


def talk(*before: dict[str, str], answer: str = "so") -> dict[str, Any]:
    return {"messages": [*before, {"role": "user", "content": "Why?"}, {"role": "assistant", "content": answer}]}


def failures(lab: Lab, source: Any, **changes: Any) -> list[str]:
    """The messages of the failed jobs that use data: prepare, train, evaluate."""
    adapter = lab.adapter_0()
    messages = []
    for job in (lab.prepare_job(), lab.train_job(adapter), lab.evaluate_job(adapter)):
        with pytest.raises(TaskFailed) as caught:
            lab.run(lab.work(job, data=source, adapter=adapter, **changes))
        assert caught.value.failure.kind is FailureKind.DATA
        messages.append(str(caught.value))
    return messages


def checked(lab: Lab, source: Any, folder: Path, max_length: int = 96) -> Any:
    """The report of check-data."""
    model = LocalModel(base=BaseSection(model="tiny"), path=folder, cache=lab.folder / "cache", fingerprint=None)
    order = CheckRequest(
        model=model,
        compute=lab.work(lab.prepare_job()).compute,
        name="d",
        data=source,
        kind="sft",
        template="chat",
        max_length=max_length,
        remote_code=False,
    )
    return lab.carry_out(order).report


def test_a_row_that_the_template_refuses_is_named_in_every_job_and_in_the_check(lab: Lab, tmp_path: Path) -> None:
    rows = [talk(answer=f"so {n}") for n in range(400)]
    rows[350] = talk(SYSTEM)
    template = tmp_path / "own.jinja"
    template.write_text(NO_SYSTEM)
    path = write_rows(tmp_path / "rows.jsonl", rows)
    source = DataSource(path=path, template=template)
    message = "rows.jsonl: line 351: the chat template refuses a row of these turns: system, user, assistant"
    assert failures(lab, source) == [message] * 3
    report = checked(lab, source, lab.model)
    assert [str(problem) for problem in report.errors] == [message]
    assert report.train + report.held_out == 399


def test_an_error_of_an_own_template_is_named_once_by_file_and_line(lab: Lab, tmp_path: Path) -> None:
    template = tmp_path / "own.jinja"
    for text in ("{% for m in messages %}\n{% endfo %}", "a\n{{ messages | no_such_filter }}"):
        template.write_text(text)
        source = lab.source(template=template)
        message = "the template own.jinja has an error in line 2"
        assert failures(lab, source) == [message] * 3
        with pytest.raises(TaskFailed, match=f"^{message}$"):
            checked(lab, source, lab.model)


@pytest.mark.parametrize("text", ["{{ '{a}'.format() }}", "{{ 'x'.join(5) }}", "{{ 'x' * 10 ** 30 }}", "{{ [][3].y }}"])
def test_whatever_a_template_raises_names_the_row(text: str) -> None:
    broken = "{% if messages[0]['content'] == 'bad' %}" + text + "{% endif %}" + CHAT_TEMPLATE
    rows = [Row("good", "", "a"), Row("bad", "", "a"), Row("good", "", "b")]
    found, _ = tokenized(rows, OwnTemplate(name="own.jinja", text=broken), byte_level_bpe())
    assert [row.error for row in found] == [
        "",
        ": the chat template refuses a row of these turns: user, assistant",
        "",
    ]


def fussy() -> Any:
    """A tokenizer of whole words that raises an error for an unknown one."""
    text = "Below is an instruction that describes a task . Write response appropriately completes the request"
    words = [*text.split(), "###", "Instruction", ":", "Response", "x", "</s>"]
    vocabulary = {word: number for number, word in enumerate(words)}
    tokenizer = Tokenizer(models.WordLevel(vocabulary, unk_token="<gone>"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, eos_token="</s>")


def test_rows_that_the_tokenizer_refuses_are_errors_and_spoil_no_others() -> None:
    rows = [Row("a task", "", "the response"), Row("SECRET", "", "x")] * 3
    found, _ = tokenized(rows, "alpaca", fussy())
    assert [row.error for row in found] == ["", ": the tokenizer refuses a row (Exception)"] * 3
    assert [len(row.full) for row in found] == [1, 0] * 3


def test_earlier_replies_that_the_template_renders_differently_are_counted() -> None:
    further = OwnTemplate(name="own.jinja", text=templates.FURTHER_MARKER_AT_THE_END)
    rows = [Row("q", "", "one"), Row("Why?", "", "so", BEFORE), Row("Why?", "", "so", BEFORE[:2])]
    found, notices = tokenized(rows, further, byte_level_bpe())
    assert [len(supervised_texts(byte_level_bpe(), row.full[0])) for row in found] == [1, 1, 1]
    assert notices == [
        "the data: line 2: earlier replies are not supervised, 3 in all: the template renders them differently once "
        "other turns follow, and 1 more"
    ]
    pair = Comparison("Why?", "", ("so", "no"), BEFORE)
    assert tokenized([pair], further, byte_level_bpe())[1] == []  # only the last reply of a pair is supervised


def test_earlier_replies_without_their_thought_are_counted_and_the_last_keeps_it() -> None:
    thought = "<think>\nten\n</think>\n\n36"
    before = (Turn("user", "twelve times three?"), Turn("assistant", thought))
    own = OwnTemplate(name="own.jinja", text=templates.THOUGHT_WRAPPED_AGAIN)
    (row,), notices = tokenized([Row("sure?", "", thought, before)], own, byte_level_bpe())
    assert supervised_texts(byte_level_bpe(), row.full[0]) == [thought + "<|im_end|>"]
    assert len(notices) == 1
    assert "line 1: earlier replies are not supervised, 1 in all" in notices[0]


@pytest.mark.parametrize("template", ["chat", "alpaca"])
@pytest.mark.parametrize(
    "row",
    [
        Row("say it", "", "done<|im_end|>"),
        Row("what is <|im_end|>?", "", "a"),
        Row("q", "see <|im_end|>", "a"),
        Row("q", "", "a", (Turn("system", "<|im_end|>"),)),
        Comparison("q", "", ("a", "b<|im_end|>")),
    ],
)
def test_special_tokens_in_an_owners_text_are_counted_by_row(template: Any, row: Row | Comparison) -> None:
    found, notices = tokenized([Row("q", "", "<b> | im_end"), row, row], template, byte_level_bpe())
    assert not any(each.error for each in found)
    assert notices == [
        "the data: line 2 has a special token of the tokenizer in its text, which acts as a control token, and 1 more"
    ]


def test_rows_that_are_skipped_have_no_notices() -> None:
    rows = [Row("q", "", ""), Row("q " * 300, "", "done<|im_end|>")]
    assert tokenized(rows, "chat", byte_level_bpe(), max_length=20)[1] == []


@pytest.mark.parametrize("prompt", ["q " * 200, "<|im_end|>" * 60])
def test_rows_whose_prompt_fills_the_length_and_pairs_that_are_equal_after_the_cut_are_skipped(prompt: str) -> None:
    pair = Comparison("q", "", ("the river " * 30 + "rises", "the river " * 30 + "falls"))
    found, _ = tokenized([Row(prompt, "", "a"), pair], "chat", byte_level_bpe(), max_length=40)
    assert [row.skip_reason for row in found] == [
        "no room for its completion in 40 tokens",
        "completions that are equal in their first 40 tokens",
    ]


# --- what the base model takes


def small_model(folder: Path, *, n_embeddings: int, n_positions: int) -> Path:
    """The tiny tokenizer with a model that takes less than it gives."""
    sizes = {"hidden_size": 16, "intermediate_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2}
    config = LlamaConfig(vocab_size=n_embeddings, max_position_embeddings=n_positions, **sizes)
    LlamaForCausalLM(config).save_pretrained(folder)
    byte_level_bpe().save_pretrained(folder)
    return folder


def test_a_token_beyond_the_models_embeddings_is_an_error_with_its_line(lab: Lab, tmp_path: Path) -> None:
    rows = [{"prompt": "q", "completion": "a"}, {"prompt": "q", "completion": "the river turns slowly again"}]
    token = max(byte_level_bpe()(rows[1]["completion"])["input_ids"])
    folder = small_model(tmp_path / "model", n_embeddings=token, n_positions=512)
    source = DataSource(path=write_rows(tmp_path / "rows.jsonl", rows))
    [row] = tokenized([Row("q", "", rows[1]["completion"])], "chat", byte_level_bpe())[0]
    place = row.full[0][0].index(token) + 1
    message = (
        f"rows.jsonl: line 2: token {place} of the row is beyond the model's {token} embeddings: the tokenizer does "
        "not belong to this model, or the model's embeddings were not resized for it"
    )
    with pytest.raises(TaskFailed) as caught:
        lab.run(lab.work(lab.prepare_job(), data=source, model_path=folder))
    assert str(caught.value) == message
    assert [str(problem) for problem in checked(lab, source, folder).errors] == [message]


def test_a_row_longer_than_the_models_positions_is_an_error_with_its_line(lab: Lab, tmp_path: Path) -> None:
    rows = [{"prompt": "q", "completion": "a"}, {"prompt": "q", "completion": "the river " * 40}]
    folder = small_model(tmp_path / "model", n_embeddings=400, n_positions=64)
    source = DataSource(path=write_rows(tmp_path / "rows.jsonl", rows))
    message = (
        "rows.jsonl: line 2 has 80 tokens, more than the model's 64 positions: the campaign's training.max_length must "
        "be at most 64"
    )
    with pytest.raises(TaskFailed) as caught:
        lab.run(lab.work(lab.prepare_job(max_length=80), data=source, model_path=folder))
    assert str(caught.value) == message
    assert [str(problem) for problem in checked(lab, source, folder, max_length=80).errors] == [message]
    assert lab.run(lab.work(lab.prepare_job(max_length=64), data=source, model_path=folder)).n_train > 0


def test_cached_tokens_of_a_larger_model_with_the_same_tokenizer_are_checked_again(lab: Lab, tmp_path: Path) -> None:
    rows = [{"prompt": "q", "completion": f"the river turns {n}"} for n in range(6)]
    source = DataSource(path=write_rows(tmp_path / "rows.jsonl", rows))
    large, small = (
        small_model(tmp_path / f"model-{n}", n_embeddings=n, n_positions=512) for n in (len(byte_level_bpe()), 270)
    )
    cache = tmp_path / "cache"
    lab.run(lab.work(lab.prepare_job(), data=source, model_path=large, cache=cache))
    with pytest.raises(TaskFailed, match="is beyond the model's 270 embeddings"):
        lab.run(lab.work(lab.prepare_job(), data=source, model_path=small, cache=cache))
    assert len(list(cache.glob("tokens-*.npz"))) == 1


def test_a_limit_holds_for_the_tokens_that_are_left_after_the_cut() -> None:
    row = Row("q", "", "the river " * 40)
    (found,), _ = tokenized([row], "chat", byte_level_bpe(), max_length=50, limits=InputLimits(None, 50))
    assert not found.error
    assert len(found.full[0][0]) > 50
    (found,), _ = tokenized([row], "chat", byte_level_bpe(), max_length=51, limits=InputLimits(None, 50))
    assert "51 tokens" in found.error


def test_the_limit_of_embeddings_is_where_a_model_fails(tmp_path: Path) -> None:
    folder = small_model(tmp_path, n_embeddings=300, n_positions=64)
    model = LlamaForCausalLM.from_pretrained(folder)
    assert model(torch.tensor([[299]])).logits.shape == (1, 1, 300)
    with pytest.raises(IndexError):
        model(torch.tensor([[300]]))
    assert InputLimits(300).exceeded_by([299]) == ""
    assert InputLimits(300).exceeded_by([1, 300]).startswith(": token 2 of the row is beyond")
