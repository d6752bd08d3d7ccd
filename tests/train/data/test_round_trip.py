"""Replies that the tokenizer cannot give back are counted, and those of which it leaves nothing are skipped."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from tokenizers import Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, trainers
from transformers import PreTrainedTokenizerFast

from agent.data.own_template import OwnTemplate
from agent.data.rows import Comparison, Row, Turn
from agent.data.source import DataSource
from agent.errors import TaskFailed
from shared.campaign.spec import DataSection
from shared.wire.tasks.leases import FailureKind
from tests.support.tiny import CHAT_TEMPLATE, CORPUS, byte_level_bpe, make_model
from tests.support.tokenizers import sentencepiece_style, wordpiece
from tests.train.conftest import Lab, write_rows
from tests.train.data.tokenized import supervised_texts, tokenized

pytestmark = pytest.mark.train

COMPATIBLE = "case, accents or compatible characters"
LOST = "characters are lost or replaced"
UNKNOWN = "characters become unknown tokens"
BARE = OwnTemplate(
    name="bare.jinja",
    text="{% for m in messages %}{{ m['role'] }} : {{ m['content'] }} {% endfor %}"
    "{% if add_generation_prompt %}assistant : {% endif %}",
)


def notice(how: str, line: int = 1, what: str = "a completion") -> str:
    return f"the data: line {line} has {what} that the tokenizer changes: {how}"


def without_unknown_token() -> Any:
    """A tokenizer of the corpus's characters that drops every other one."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace()
    tokenizer.decoder = decoders.Metaspace()
    tokenizer.train_from_iterator(CORPUS, trainers.BpeTrainer(vocab_size=300, special_tokens=["<eos>"]))
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, eos_token="<eos>", chat_template=BARE.text)


def normalising(normalizer: Any) -> Any:
    """A byte-level tokenizer with a normaliser."""
    tokenizer = byte_level_bpe()
    tokenizer.backend_tokenizer.normalizer = normalizer
    return tokenizer


def with_prefix_space() -> Any:
    """A byte-level tokenizer that puts a space before every text."""
    tokenizer = byte_level_bpe()
    tokenizer.backend_tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=True)
    return tokenizer


def with_prefix_space_and_joined_newlines() -> Any:
    """The same, with one token for a space and a newline, so that no text can be encoded after a newline alone."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=True)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=320,
        special_tokens=["<|im_start|>", "<|im_end|>"],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
    )
    tokenizer.train_from_iterator([" \n"] * 100 + CORPUS, trainer)
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, eos_token="<|im_end|>", chat_template=CHAT_TEMPLATE, pad_token="<|im_end|>"
    )


# --- what is changed


@pytest.mark.parametrize("template", ["chat", "alpaca", "vicuna"])
def test_characters_that_a_tokenizer_without_unknown_token_drops_are_counted(template: Any) -> None:
    rows = [Row("what?", "", text) for text in ("the water rises", "the wäter rises 🙂", "the рiver")]
    found, notices = tokenized(rows, template, without_unknown_token())
    assert [row.skip_reason or row.error for row in found] == [""] * 3
    assert [each for each in notices if "tokenizer" in each] == [f"{notice(LOST, 2)}, and 1 more"]


@pytest.mark.parametrize("template", ["chat", "alpaca", "vicuna"])
@pytest.mark.parametrize("completion", ["漢字", "🙂", "Ω 漢"])
def test_a_completion_of_which_the_tokenizer_leaves_only_the_end_marker_is_skipped(
    template: Any, completion: str
) -> None:
    rows = [Row("what?", "", completion), Row("what?", "", "the water"), Comparison("why?", "", ("the", completion))]
    found, notices = tokenized(rows, template, without_unknown_token())
    reason = "a completion of which the tokenizer leaves nothing"
    assert [row.skip_reason for row in found] == [reason, "", reason]
    assert not [each for each in notices if "tokenizer" in each]


@pytest.mark.parametrize("template", ["chat", "alpaca", "vicuna"])
def test_unknown_tokens_are_counted_and_a_completion_of_them_alone_is_skipped(template: Any) -> None:
    rows = [Row("what ?", "", text) for text in ("the river 漢", "漢 字", "the river")]
    found, notices = tokenized(rows, template, wordpiece())
    assert [row.skip_reason for row in found] == ["", "a completion of which the tokenizer leaves nothing", ""]
    assert [each for each in notices if "tokenizer" in each] == [notice(UNKNOWN)]


@pytest.mark.parametrize(
    ("normalizer", "completion", "how"),
    [
        (normalizers.NFKC(), "x² + ½ ﬁ Ⅷ", COMPATIBLE),
        (normalizers.BertNormalizer(lowercase=True), "The WATER rises é", COMPATIBLE),
        (normalizers.Lowercase(), "STRASSE ẞ", COMPATIBLE),
        (normalizers.StripAccents(), "de\u0301ja\u0300", COMPATIBLE),
        (normalizers.Replace(Regex(r"\s+"), " "), "if x:\n    return", "white space"),
        (normalizers.Strip(), "  indented", "white space"),
        (normalizers.Replace("’", ""), "don’t", LOST),
        (normalizers.BertNormalizer(clean_text=True, lowercase=False, strip_accents=False), "a\x07b", LOST),
    ],
)
def test_what_a_normaliser_does_to_a_completion_is_counted(normalizer: Any, completion: str, how: str) -> None:
    tokenizer = normalising(normalizer)
    rows = [Row("WHAT é?", "", "the river"), Row("what?", "", completion), Row("what?", "", completion)]
    for template in ("alpaca", "chat"):
        found, notices = tokenized(rows, template, tokenizer)
        assert not any(row.error or row.skip_reason for row in found)
        assert notices == [f"{notice(how, 2)}, and 1 more"]


def test_the_notice_shows_nothing_of_the_row_and_names_earlier_replies() -> None:
    before = (Turn("user", "why?"), Turn("assistant", "SECRET WATER"))
    _, notices = tokenized([Row("what?", "", "so", before)], "chat", normalising(normalizers.Lowercase()))
    assert notices == [notice(COMPATIBLE, what="an earlier reply")]
    only_last = Row("what?", "", "so", before, only_last=True)
    assert tokenized([only_last], "chat", normalising(normalizers.Lowercase()))[1] == []


# --- what is not


TEXTS = [
    "the river turns slowly",
    "don't stop , at 3.14 % or x != y .",
    "  indented\n\tcode\n\n\nand  more ",
    "\n\nbegins with lines",
    " ",
    "é e\u0301 漢字 🙂 ﬁ ² \u200b\u00a0 \ufffd",
    "done<|im_end|> and <unk> </s> [UNK]",
]


@pytest.mark.parametrize(
    "make",
    [
        byte_level_bpe,
        sentencepiece_style,
        with_prefix_space,
        with_prefix_space_and_joined_newlines,
        lambda: normalising(normalizers.NFC()),
    ],
)
@pytest.mark.parametrize("clean_up", [False, True])
def test_a_tokenizer_that_keeps_a_text_raises_no_alarm(make: Callable[[], Any], clean_up: bool) -> None:
    tokenizer = make()
    tokenizer.clean_up_tokenization_spaces = clean_up
    before = (Turn("user", "Why?"), Turn("assistant", "é 漢  🙂"))
    rows = [Row("What?", "", text + end, before) for text in TEXTS for end in ("x", "\n.")]
    for template in ("alpaca", "vicuna", BARE, "chat"):
        if template == "chat" and not tokenizer.chat_template:
            continue
        found, notices = tokenized(rows, template, tokenizer)
        assert not any(row.error or row.skip_reason for row in found)
        assert not [each for each in notices if "tokenizer changes" in each]


def test_spaces_that_a_word_tokenizer_puts_between_words_raise_no_alarm() -> None:
    rows = [Row("What ?", "", text) for text in ("the river", "the water rises and the bread falls")]
    for template in ("alpaca", "vicuna", BARE, "chat"):
        assert tokenized(rows, template, wordpiece())[1] == []


# --- a space before every text


@pytest.mark.parametrize("make", [with_prefix_space, with_prefix_space_and_joined_newlines])
@pytest.mark.parametrize("template", ["chat", "alpaca", "vicuna"])
def test_a_tokenizer_that_puts_a_space_before_every_text_puts_none_before_a_reply(
    make: Callable[[], Any], template: Any
) -> None:
    before = (Turn("user", "Why?"), Turn("assistant", "no"))
    for completion in ("hello", "7", "(so)", " two  ", "\n\nlines", "é"):
        (row,), _ = tokenized([Row("q", "", completion, before)], template, make())
        lead = " " if template == "vicuna" else ""
        assert supervised_texts(make(), row.full[0]) == [f"{lead}no<|im_end|>", f"{lead}{completion}<|im_end|>"]


@pytest.mark.parametrize("template", ["alpaca", "vicuna"])
def test_unknown_characters_at_the_beginning_of_a_reply_are_tokens_of_it(template: Any) -> None:
    """The tokenizer joins unknown characters, and a newline is one too."""
    tokenizer = Tokenizer(models.Unigram())
    tokenizer.pre_tokenizer, tokenizer.decoder = pre_tokenizers.Metaspace(), decoders.Metaspace()
    trainer = trainers.UnigramTrainer(vocab_size=200, special_tokens=["<unk>", "</s>"], unk_token="<unk>")
    tokenizer.train_from_iterator(CORPUS, trainer)
    fast = PreTrainedTokenizerFast(tokenizer_object=tokenizer, eos_token="</s>", unk_token="<unk>")
    (row,), notices = tokenized([Row("q", "", "漢 the river")], template, fast)
    (text,) = supervised_texts(fast, row.full[0])
    assert text.strip() == "<unk> the river</s>"
    assert notices == [notice(UNKNOWN)]


# --- panics


def test_a_panic_of_the_tokenizer_is_an_error_of_its_row() -> None:
    tokenizer = without_unknown_token()
    # cuts nothing out of an empty rest, and panics
    only_han = pre_tokenizers.Split(Regex("[^漢]+"), behavior="removed")
    tokenizer.backend_tokenizer.pre_tokenizer = pre_tokenizers.Sequence([only_han, pre_tokenizers.FixedLength(0)])
    found, _ = tokenized([Row("q", "", text) for text in ("a", "漢", "b")], "alpaca", tokenizer)
    assert [row.error for row in found] == ["", ": the tokenizer refuses a row (TokenizerPanicError)", ""]


def test_a_panic_of_the_tokenizer_fails_the_job_with_file_and_line(lab: Lab, tmp_path: Path) -> None:
    folder = make_model(tmp_path / "model")
    tokenizer = byte_level_bpe()
    # takes one character off both ends of a text that has only one, and panics
    strip = decoders.Sequence([decoders.ByteLevel(), decoders.Strip("漢", 1, 1)])
    tokenizer.backend_tokenizer.decoder = strip
    tokenizer.save_pretrained(folder)
    rows = [{"prompt": "q", "completion": text} for text in ("a", "漢", "b")]
    source = DataSource(path=write_rows(tmp_path / "rows.jsonl", rows), held_out=0.0)
    job = lab.prepare_job(data=DataSection(name="d", template="alpaca"), max_length=300)
    with pytest.raises(TaskFailed) as caught:
        lab.run(lab.work(job, data=source, model_path=folder))
    assert caught.value.failure.kind is FailureKind.DATA
    assert str(caught.value) == "rows.jsonl: line 2: the tokenizer refuses a row (TokenizerPanicError)"
