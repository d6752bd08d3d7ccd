"""Likelihoods and texts of a model in a real child, against lm-evaluation-harness over the same model."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer, LlamaConfig, LlamaForCausalLM

from agent.errors import TaskFailed
from fedloom.evaluation.asking.child_model import ChildModel
from fedloom.evaluation.asking.models import NoChatTemplate
from fedloom.evaluation.asking.replies import stored
from fedloom.evaluation.asking.requests import Generate, Likelihood, Rolling, Scored
from fedloom.evaluation.asking.warm_base import WarmBase
from shared.wire.tasks.leases import FailureKind, Phase
from tests.support.tiny import CORPUS
from tests.support.tokenizers import sentencepiece_style
from tests.train.conftest import Lab
from tests.train.local_requests import lora_file, peft_model

pytest.importorskip("lm_eval")

from tests.evaluation.harness_lm import hflm, log_likelihoods, rolling, texts

pytestmark = pytest.mark.train
Model = Callable[..., ChildModel]

QUESTION = "Question: what does the river do at night?\nAnswer:"
LONG = " ".join(CORPUS)
PAIRS = [
    Likelihood(QUESTION, " the river rises"),
    *(Likelihood(QUESTION, f" {letter}") for letter in "ABCD"),
    Likelihood("white space at the end  ", "belongs to what follows"),
    Likelihood("white space at the end\n\n", " here too"),
    Likelihood("", "after nothing"),
    Likelihood("", "<|im_end|> begins with the token before it"),
    Likelihood("<|im_end|>begins with it", " as well"),
    Likelihood("ein Satz mit Ümlauten: 他今天好多了", "。再见 ü"),
    Likelihood(LONG, " is cut from the left"),
    Likelihood("short", " " + LONG[:900]),
]
PROMPTS = [
    Generate(QUESTION, (), 12),
    Generate("river", ("e", "zz"), 40),
    Generate("the engine turns", ("\n\n", "Q"), 40),
    Generate("a", ("e", "zz"), 40),
    Generate(LONG, (), 12),
]


def assert_same(replies: list[Scored], expected: list[tuple[float, bool]], tolerance: float = 1e-5) -> None:
    assert [reply.is_greedy for reply in replies] == [greedy for _, greedy in expected]
    log_probs = [log_prob for log_prob, _ in expected]
    # the harness adds up in float32, whose rounding alone is more than the tolerance from -100 on
    assert [reply.log_prob for reply in replies] == pytest.approx(log_probs, abs=tolerance, rel=1e-7)


def greedy_pairs(lm: Any, contexts: list[str]) -> list[Likelihood]:
    """Continuations that greedy decoding gives, of two tokens or one."""
    prompts = [Generate(context, (), 2) for context in contexts]
    tokenizer = lm.tokenizer
    pairs = []
    for prompt, text in zip(prompts, texts(lm, prompts), strict=True):
        whole = tokenizer.encode(prompt.prompt + text)
        if whole[: len(tokenizer.encode(prompt.prompt))] == tokenizer.encode(prompt.prompt):
            pairs.append(Likelihood(prompt.prompt, text))
    return pairs


def test_likelihoods_are_those_of_the_harness(lab: Lab, new_model: Model) -> None:
    lm = hflm(lab.model)
    pairs = [*PAIRS, *greedy_pairs(lm, [QUESTION, "river", "the engine turns", "bread", "school", "winter"])]
    replies = new_model(micro_batch=3).ask(pairs)
    assert_same(replies, log_likelihoods(lm, pairs))
    assert {reply.is_greedy for reply in replies} == {True, False}
    n_cut = {pair.continuation: reply.n_cut for pair, reply in zip(pairs, replies, strict=True)}
    n_long = len(lm.tok_encode(LONG + " is cut from the left"))
    assert n_cut.pop(" is cut from the left") == n_long - 513 > 0
    assert not any(n_cut.values())


def test_the_batch_does_not_matter(lab: Lab, new_child: Any) -> None:
    child = new_child()
    one, many = (ChildModel(WarmBase(child, micro_batch=n)) for n in (1, 16))
    assert_same(one.ask(PAIRS), [(reply.log_prob, reply.is_greedy) for reply in many.ask(PAIRS)])
    assert one.ask(PROMPTS) == many.ask(PROMPTS)
    sampled = [Generate(QUESTION, (), 12, temperature=1.0, seed=3, sample=i) for i in range(6)]
    drawn = many.ask(sampled)
    assert one.ask(sampled) == drawn
    assert one.ask(sampled[4:5]) == drawn[4:5], "a sample depends on no other"
    assert len({text.text for text in drawn}) > 1


def test_two_adapters_and_none_in_turn(lab: Lab, new_child: Any) -> None:
    loads: list[Any] = []
    base = WarmBase(new_child(), loads.append)
    files = {"base": None, "a": lab.adapter_0(seed=7), "b": lab.adapter_0(seed=8)}
    models = {name: ChildModel(base, name, lora_file(file) if file else None) for name, file in files.items()}
    expected: dict[str, Any] = {}
    for name, file in files.items():
        lm = hflm(lab.model, peft_model(lab.model, file) if file else None)
        expected[name] = log_likelihoods(lm, PAIRS), rolling(lm, [LONG]), texts(lm, PROMPTS)
    for name in ("base", "a", "base", "b", "a"):
        scored, sums, generated = expected[name]
        assert_same(models[name].ask(PAIRS), scored)
        assert models[name].ask([Rolling(LONG)])[0].log_prob == pytest.approx(sums[0], rel=1e-6)
        assert [text.text for text in models[name].ask(PROMPTS)] == generated
    assert [each.phase for each in loads].count(Phase.LOADING_MODEL) == 1, "the base is loaded once"
    assert expected["a"][0] != expected["b"][0]
    assert len({model.facts.adapter_sha256 for model in models.values()}) == 3


def test_adapters_of_equal_weights_and_another_alpha_share_no_replies(lab: Lab, new_child: Any, tmp_path: Path) -> None:
    base, file = WarmBase(new_child()), lora_file(lab.adapter_0(seed=7))
    other = file.model_copy(update={"lora": file.lora.model_copy(update={"alpha": file.lora.alpha * 4})})
    fewer = file.model_copy(update={"lora": file.lora.model_copy(update={"dropout": 0.5})})
    asked = [Likelihood("river", " bread")]
    first, second, third = (ChildModel(base, "a", each) for each in (file, other, fewer))
    [one] = stored([first], tmp_path)[0].ask(asked)
    [two] = stored([second], tmp_path)[0].ask(asked)
    assert one != two
    assert two == second.ask(asked)[0]
    assert first.facts.adapter_sha256 == second.facts.adapter_sha256
    assert third.facts == first.facts, "dropout is of training alone"


def test_rolling_windows_are_those_of_the_harness(lab: Lab, new_model: Model) -> None:
    whole = [LONG, "one", "the water rises", LONG[:1800]]
    replies = new_model().ask([Rolling(text) for text in whole])
    lm = hflm(lab.model)
    assert [reply.log_prob for reply in replies] == pytest.approx(rolling(lm, whole), rel=1e-6)
    assert [reply.n_tokens for reply in replies] == [len(lm.tok_encode(text)) for text in whole]
    assert replies[0].n_tokens > 2 * 512, "there are several windows"


def test_texts_are_those_of_the_harness(lab: Lab, new_model: Model) -> None:
    lm = hflm(lab.model)
    replies = new_model(micro_batch=2).ask(PROMPTS)
    assert [reply.text for reply in replies] == texts(lm, PROMPTS)
    assert [reply.n_cut for reply in replies] == [0, 0, 0, 0, len(lm.tok_encode(LONG)) - (512 - 12)]
    stopped = [reply.is_complete for reply in replies]
    assert stopped[0] is stopped[4] is False
    assert True in stopped
    assert replies[0].n_tokens == 12
    for prompt, reply in zip(PROMPTS, replies, strict=True):
        assert not any(stop in reply.text for stop in prompt.stop)
        assert reply.is_complete or reply.n_tokens == prompt.max_new_tokens


def test_greedy_decoding_ignores_the_models_own_sampling(lab: Lab, new_model: Model, tmp_path: Path) -> None:
    folder = tmp_path / "sampling"
    model = AutoModelForCausalLM.from_pretrained(lab.model)
    model.generation_config.update(do_sample=True, temperature=5.0, top_k=5, repetition_penalty=1.8)
    model.save_pretrained(folder)
    AutoTokenizer.from_pretrained(lab.model).save_pretrained(folder)
    plain = new_model().ask(PROMPTS)
    sampling = new_model(model=folder)
    assert sampling.ask(PROMPTS) == plain
    drawn = sampling.ask([Generate("river", (), 1, temperature=1e6, seed=seed) for seed in range(60)])
    assert 2 <= len({text.text for text in drawn}) <= 5, "top_k of the configuration holds where tokens are sampled"


def test_samples_follow_the_softmax(lab: Lab, new_model: Model) -> None:
    lm = hflm(lab.model)
    with torch.no_grad():
        logits = lm.model(torch.tensor([lm.tok_encode("river")])).logits[0, -1]
    p = (logits / 0.5).softmax(-1)
    n = 400
    drawn = new_model(micro_batch=64).ask([Generate("river", (), 1, temperature=0.5, sample=i) for i in range(n)])
    likeliest = int(p.argmax())
    share = sum(text.text == lm.tokenizer.decode([likeliest]) for text in drawn) / n
    expected = float(p[likeliest])
    assert share == pytest.approx(expected, abs=4 * (expected * (1 - expected) / n) ** 0.5)
    assert 0.05 < expected < 0.95


def test_in_bfloat16_numbers_are_those_of_the_harness_in_mixed_precision(lab: Lab, new_model: Model) -> None:
    replies = new_model(cpu_dtype="bfloat16").ask(PAIRS)
    lm = hflm(lab.model, dtype=torch.bfloat16, mixed_precision_dtype="bfloat16", softmax_dtype="float32")
    expected = log_likelihoods(lm, PAIRS)
    assert_same(replies, expected, tolerance=0.05 * max(-log_prob for log_prob, _ in expected) ** 0.5)
    assert any(a.log_prob != b.log_prob for a, b in zip(replies, new_model().ask(PAIRS), strict=True))


@pytest.mark.deep
def test_on_a_quantised_base_the_adapter_switches_too(lab: Lab, new_child: Any) -> None:
    pytest.importorskip("bitsandbytes")
    warm = WarmBase(new_child(quantization="nf4"))
    base = ChildModel(warm)
    tuned = ChildModel(warm, "a", lora_file(lab.adapter_0()))
    first = base.ask(PAIRS)
    assert base.facts.quantization == "nf4"
    assert [reply.log_prob for reply in tuned.ask(PAIRS)] != [reply.log_prob for reply in first]
    assert base.ask(PAIRS) == first
    assert base.ask(PROMPTS) == base.ask(PROMPTS)


@pytest.fixture
def llama_2_like(tmp_path: Path) -> Path:
    """A model whose tokenizer writes a BOS token and a space before each text."""
    tokenizer = sentencepiece_style()
    torch.manual_seed(1)
    config = LlamaConfig(
        vocab_size=len(tokenizer),
        hidden_size=32,
        intermediate_size=64,
        num_hidden_layers=2,
        num_attention_heads=4,
        max_position_embeddings=128,
        initializer_range=0.2,
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id,
    )
    LlamaForCausalLM(config).save_pretrained(tmp_path / "model")
    tokenizer.save_pretrained(tmp_path / "model")
    return tmp_path / "model"


def test_a_tokenizer_with_a_first_token_is_used_as_the_harness_does(llama_2_like: Path, new_model: Model) -> None:
    # with its cache the harness mixes up the places of two pairs of the same tokens that are split differently
    lm = hflm(llama_2_like, logits_cache=False)
    pairs = [pair for pair in PAIRS if len(pair.continuation) < 500]
    pairs += [Likelihood("<s> the river", " rises"), Likelihood("", "<s> the river rises")]
    model = new_model(model=llama_2_like)
    assert_same(model.ask(pairs), log_likelihoods(lm, pairs))
    whole = [LONG[:700], "<s> the river", "bread"]
    assert [reply.log_prob for reply in model.ask([Rolling(text) for text in whole])] == pytest.approx(
        rolling(lm, whole), rel=1e-6
    )
    prompts = [prompt for prompt in PROMPTS if prompt.prompt != LONG] + [Generate("<s> the river", ("e",), 20)]
    assert [text.text for text in model.ask(prompts)] == texts(lm, prompts)
    with pytest.raises(NoChatTemplate, match="has no chat template"):
        model.chat_prompt([{"role": "user", "content": "Why?"}])


def test_what_does_not_fit_has_a_problem_and_no_number(new_model: Model) -> None:
    model = new_model()
    fits, long, empty = model.ask([PAIRS[0], Likelihood("short", " " + LONG), Likelihood("short", "")])
    assert fits.problem == ""
    assert "positions, and the model has 512" in long.problem
    assert long.log_prob != long.log_prob, "not a number"
    assert empty.problem == "the text to score has no tokens"
    (text,) = model.ask([Generate("river", (), 512)])
    assert text.problem == "needs 513 positions, and the model has 512"
    assert model.ask([Rolling("")])[0].problem == "the text has no tokens"
    assert model.ask([]) == []


def test_facts_tokens_and_chat_prompts(lab: Lab, new_model: Model) -> None:
    model = new_model()
    tokenizer = AutoTokenizer.from_pretrained(lab.model)
    assert model.facts.n_positions == 512
    assert model.facts.has_chat_template
    assert model.facts.fingerprint == lab.fingerprint.model_dump()
    assert model.count_tokens(["", QUESTION]) == [0, len(tokenizer.encode(QUESTION, add_special_tokens=False))]
    messages = [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "Why?"}]
    expected = tokenizer.apply_chat_template(messages, tokenize=False, add_generation_prompt=True)
    assert model.chat_prompt(messages) == expected
    assert expected.endswith("<|im_start|>assistant\n")


@pytest.fixture
def short_of_memory(new_child: Any, monkeypatch: pytest.MonkeyPatch) -> Callable[..., tuple[WarmBase, list[int]]]:
    """A base whose child has no memory for more than *most* requests at once, and the micro batches that it got."""

    def make(most: int, micro_batch: int | None = None) -> tuple[WarmBase, list[int]]:
        base = WarmBase(new_child(), micro_batch=micro_batch)
        run, tried = base.child.run, []

        def out_of_memory(order: Any, *callbacks: Any) -> Any:
            tried.append(order.micro_batch)
            if order.micro_batch > most:
                raise TaskFailed(FailureKind.OUT_OF_MEMORY, "out of memory")
            return run(order, *callbacks)

        monkeypatch.setattr(base.child, "run", out_of_memory)
        return base, tried

    return make


def test_the_batch_is_halved_until_it_fits(
    new_model: Model, short_of_memory: Callable[..., tuple[WarmBase, list[int]]]
) -> None:
    expected = new_model(micro_batch=8).ask(PAIRS)
    base, tried = short_of_memory(2, micro_batch=8)
    model = ChildModel(base)
    assert_same(model.ask(PAIRS), [(reply.log_prob, reply.is_greedy) for reply in expected])
    assert tried == [8, 4, 2]
    assert base.micro_batch[Likelihood] == 2
    nothing, tried = short_of_memory(0, micro_batch=2)
    with pytest.raises(TaskFailed, match="out of memory"):
        ChildModel(nothing).ask(PAIRS)
    assert tried == [2, 1]


def test_what_one_adapter_had_no_memory_for_no_other_one_tries(
    lab: Lab, short_of_memory: Callable[..., tuple[WarmBase, list[int]]]
) -> None:
    base, tried = short_of_memory(3)
    asked = [Generate(f"river {number}", (), 4) for number in range(20)]
    replies = ChildModel(base).ask(asked)
    assert tried == [32, 10, 5, 2], "20 were together, and not 32"
    tuned = ChildModel(base, "a", lora_file(lab.adapter_0(seed=7)))
    other = tuned.ask(asked)
    assert tried[4:] == [2]
    assert [reply.text for reply in other] != [reply.text for reply in replies]
    tuned.ask([Likelihood("river", f" {number}") for number in range(3)])
    assert tried[5:] == [8, 1], "scores take another amount of memory"


def test_prompts_of_many_lengths_go_together(new_model: Model, monkeypatch: pytest.MonkeyPatch) -> None:
    model = new_model()
    asked = [Generate(f"{LONG[: 40 * number]}river", ("e", "zz"), 2 + 7 * number % 60) for number in range(12)]
    alone = [model.ask([each])[0] for each in asked]
    orders: list[Any] = []
    run = model._base.child.run
    monkeypatch.setattr(model._base.child, "run", lambda order, *given: [orders.append(order), run(order, *given)][1])
    assert model.ask(asked) == alone
    assert len(orders) == 1
    assert {reply.is_complete for reply in alone} == {True, False}
    assert [reply.n_tokens for reply in alone if not reply.is_complete] == [
        each.max_new_tokens for each, reply in zip(asked, alone, strict=True) if not reply.is_complete
    ]
