"""Answers to questions, against plain transformers and plain PEFT."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import AutoModelForCausalLM, AutoTokenizer

from agent.data.rows import Row
from agent.errors import TaskFailed
from agent.orders.job_files import DELTA_FILE
from agent.orders.on_base.answer import Question
from agent.orders.on_base.model import LoraFile
from agent.orders.protocol import LocalPhase
from agent.train.data.tokenizing import TextTokenizer
from agent.train.local.streaming import AnswerDecoder, TextStreamer
from shared.campaign.spec import LoraSection
from shared.wire.tasks.leases import FailureKind
from tests.support.rendering import render
from tests.support.tiny import byte_level_bpe
from tests.support.tokenizers import sentencepiece_style
from tests.train.conftest import Lab, first_in_fast, read
from tests.train.local_requests import QUESTIONS, ask, lora_file, peft_model

pytestmark = pytest.mark.train


def plain_answers(lab: Lab, model: Any, template: Any, n_tokens: int = 20) -> list[str]:
    """The text that ``generate`` returns for each prompt alone."""
    tokenizer = AutoTokenizer.from_pretrained(lab.model)
    texts = []
    for question in QUESTIONS:
        prompt = render(Row(question.prompt, question.input, "x"), template, tokenizer).exchanges[0].prompt
        inputs = tokenizer(prompt, return_tensors="pt", add_special_tokens=False)
        ids = model.generate(
            input_ids=inputs["input_ids"],
            attention_mask=inputs["attention_mask"],
            max_new_tokens=n_tokens,
            do_sample=False,
            eos_token_id=tokenizer.eos_token_id,
            pad_token_id=tokenizer.pad_token_id,
        )
        new = ids[0, inputs["input_ids"].shape[1] :]
        text = tokenizer.decode(new, skip_special_tokens=True, clean_up_tokenization_spaces=False)
        texts.append(text.removeprefix(" ") if template == "vicuna" else text)
    return texts


@pytest.mark.parametrize("template", first_in_fast(["chat", "alpaca", "vicuna"]))
def test_answers_are_those_of_plain_peft(lab: Lab, template: str) -> None:
    adapter = lab.adapter_0()
    base = AutoModelForCausalLM.from_pretrained(lab.model, dtype=torch.float32)
    without = plain_answers(lab, base, template)
    assert ask(lab, template=template) == without
    with_adapter = plain_answers(lab, peft_model(lab.model, adapter), template)
    assert ask(lab, template=template, adapter=lora_file(adapter)) == with_adapter
    assert with_adapter != without
    assert ask(lab, template=template) == without, "the base is as it was before the adapter"


@pytest.mark.parametrize("micro_batch", first_in_fast([3, 2, 8]))
def test_questions_asked_together_are_answered_as_one_by_one(lab: Lab, micro_batch: int) -> None:
    adapter = lora_file(lab.adapter_0())
    for attached in (None, adapter):
        assert ask(lab, adapter=attached, micro_batch=micro_batch) == ask(lab, adapter=attached)
    reports = [(report.phase, report.done) for report in lab.reports]
    assert reports[-1] == (LocalPhase.ANSWERING, len(QUESTIONS))


def test_training_is_the_same_after_a_question(lab: Lab, new_lab: Callable[..., Lab]) -> None:
    adapter = lab.adapter_0()
    fresh = new_lab()
    fresh.fingerprint = lab.fingerprint
    deltas = []
    for asked in (False, True):
        if asked:
            ask(fresh, adapter=lora_file(adapter), micro_batch=2, temperature=0.7)
            ask(fresh)
        work = fresh.work(fresh.train_job(adapter), adapter=adapter)
        fresh.run(work)
        deltas.append((work.folder / DELTA_FILE).read_bytes())
    assert deltas[0] == deltas[1]


def test_an_answer_ends_at_the_end_token_and_only_there(lab: Lab, tmp_path: Path) -> None:
    """The end token is replaced by one that the model soon generates."""
    (text,) = ask(lab, questions=QUESTIONS[:1])
    folder = Path(shutil.copytree(lab.model, tmp_path / "model"))
    tokenizer = AutoTokenizer.from_pretrained(folder)
    model = AutoModelForCausalLM.from_pretrained(folder)
    prompt = render(Row(QUESTIONS[0].prompt, "", "x"), "chat", tokenizer).exchanges[0].prompt
    inputs = tokenizer(prompt, return_tensors="pt")
    new = model.generate(**inputs, max_new_tokens=20, do_sample=False)[0, inputs["input_ids"].shape[1] :].tolist()
    end = next(i for i, token in enumerate(new) if i > 2 and token not in new[:i])
    settings = {"eos_token_id": [new[end]], "do_sample": True, "repetition_penalty": 5.0, "max_new_tokens": 1}
    (folder / "generation_config.json").write_text(json.dumps(settings))
    (short,) = ask(lab, path=folder, fingerprint=None, questions=QUESTIONS[:1])
    assert short == tokenizer.decode(new[:end], clean_up_tokenization_spaces=False)
    assert text.startswith(short)


def test_temperature_draws_from_the_seed(lab: Lab) -> None:
    drawn = [ask(lab, temperature=1.0, seed=seed, micro_batch=8) for seed in (1, 1, 2)]
    assert drawn[0] == drawn[1] != drawn[2]


def test_without_questions_the_adapter_is_still_checked(lab: Lab) -> None:
    assert ask(lab, questions=[], adapter=lora_file(lab.adapter_0())) == []
    with pytest.raises(TaskFailed, match="does not fit"):
        ask(lab, questions=[], adapter=LoraFile(weights=lab.adapter_0(), lora=LoraSection(rank=2)))


def test_text_comes_in_pieces_of_whole_characters(tokenizer: Any) -> None:
    text = "the naïve ☃ 他好 👩‍🔬 is slow"
    tokens = tokenizer(text, add_special_tokens=False)["input_ids"]
    pieces: list[str] = []
    # the tokens are those of a beginning, where SentencePiece puts a space
    streamer = TextStreamer(AnswerDecoder(tokenizer, " "), {tokenizer.eos_token_id}, pieces.append)
    streamer.put(torch.tensor([[1, 2, 3]]))
    for token in [*tokens, tokenizer.eos_token_id]:
        streamer.put(torch.tensor([token]))
    streamer.end()
    assert "".join(pieces) == tokenizer.decode(tokens, clean_up_tokenization_spaces=False, skip_special_tokens=True)
    assert not any("\ufffd" in piece for piece in pieces)
    assert len(pieces) > 3


def test_bytes_that_never_become_a_character_are_emitted_at_the_end() -> None:
    tokenizer = byte_level_bpe()
    first, *others = tokenizer("☃")["input_ids"]
    pieces: list[str] = []
    streamer = TextStreamer(AnswerDecoder(tokenizer), set(), pieces.append)
    for tokens in ([[0]], tokenizer("a")["input_ids"], [first], others, [first]):
        streamer.put(torch.tensor(tokens))
    assert pieces == ["a", "☃"]
    streamer.end()
    assert pieces == ["a", "☃", "\ufffd"]


@pytest.mark.parametrize("completion", ["    return x\n        + 1", "\n\nabc ", " four", "four", "\ttab", "🙂 ☃"])
@pytest.mark.parametrize(("template", "lead"), [("alpaca", ""), ("vicuna", " ")])
@pytest.mark.parametrize("family", [byte_level_bpe, sentencepiece_style])
def test_what_was_learnt_is_shown_with_its_white_space(
    family: Callable[[], Any], template: Any, lead: str, completion: str
) -> None:
    tokenizer = family()
    text = render(Row("body?", "", completion), template, tokenizer)
    [(tokens, supervised)] = TextTokenizer(tokenizer, 999).full_rows([text])
    learnt = [token for token, flag in zip(tokens, supervised, strict=True) if flag]
    decoder, pieces = AnswerDecoder(tokenizer, lead), list[str]()
    streamer = TextStreamer(decoder, {tokenizer.eos_token_id}, pieces.append)
    streamer.put(torch.tensor([[1, 2, 3]]))
    for token in learnt:
        streamer.put(torch.tensor([token]))
    streamer.end()
    assert "".join(pieces) == completion
    assert decoder.text(learnt) == completion


def test_an_adapter_in_half_precision_is_an_adapter(lab: Lab, tmp_path: Path) -> None:
    halved = {name: torch.from_numpy(value).bfloat16() for name, value in read(lab.adapter_0()).items()}
    save_file(halved, tmp_path / "half.safetensors", metadata={"format": "pt"})
    save_file({name: value.float() for name, value in halved.items()}, tmp_path / "full.safetensors")
    half, full = (ask(lab, adapter=lora_file(tmp_path / f"{name}.safetensors")) for name in ("half", "full"))
    assert half == full


def test_a_question_that_leaves_no_room_is_refused(lab: Lab) -> None:
    with pytest.raises(TaskFailed) as caught:
        ask(lab, questions=[Question(prompt="water " * 600)])
    assert caught.value.failure.kind == FailureKind.DATA
    assert "with 20 new ones is more than the 512" in str(caught.value)


def test_another_base_is_refused_by_the_name_of_its_part(lab: Lab, tmp_path: Path) -> None:
    folder = Path(shutil.copytree(lab.model, tmp_path / "model"))
    tensors = load_file(folder / "model.safetensors")
    tensors["model.norm.weight"][0] += 1
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(TaskFailed) as caught:
        ask(lab, path=folder)
    assert caught.value.failure.kind == FailureKind.FINGERPRINT
    assert "differs from the campaign's in its weights:" in str(caught.value)
    assert "--base" in str(caught.value)


def test_the_error_for_a_missing_base_says_how_to_name_it(lab: Lab, tmp_path: Path) -> None:
    for changes in ({"path": tmp_path / "gone"}, {"path": None}):
        with pytest.raises(TaskFailed) as caught:
            ask(lab, **changes)
        assert "--base" in str(caught.value)
        assert "agent.toml" not in str(caught.value)
