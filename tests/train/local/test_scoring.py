"""Log-probabilities of completions, against plain transformers and plain PEFT."""

from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from agent.data.own_template import OwnTemplate
from agent.data.rows import Row
from agent.errors import TaskFailed
from agent.orders.on_base.score import Completed, ScoreRequest
from shared.wire.tasks.leases import FailureKind, Phase
from tests.support.chat_templates import changing
from tests.support.rendering import render
from tests.train.conftest import Lab, first_in_fast
from tests.train.local.test_local_child import open_child, put
from tests.train.local_requests import lora_file, peft_model, score_request

pytestmark = pytest.mark.train

ROWS = [
    Completed(prompt="What does the water do now?", completion="the water rises"),
    Completed(prompt="Why?", completion="winter"),
    Completed(prompt="What does the engine do?", input="Think of number 3.", completion="it turns and turns slowly"),
]


def plain_log_probs(lab: Lab, model: Any) -> tuple[list[float], list[int]]:
    """Each completion's sum of log-probabilities, end marker included, and its number of tokens."""
    tokenizer = AutoTokenizer.from_pretrained(lab.model)
    sums, counts = [], []
    for row in ROWS:
        text = render(Row(row.prompt, row.input, row.completion), "chat", tokenizer)
        prompt, completion = (
            tokenizer(part, add_special_tokens=False).input_ids
            for part in (text.exchanges[0].prompt, text.exchanges[0].answer)
        )
        with torch.no_grad():
            log_p = model(torch.tensor([prompt + completion])).logits[0].log_softmax(-1)
        sums.append(sum(log_p[len(prompt) - 1 + i, token].item() for i, token in enumerate(completion)))
        counts.append(len(completion))
    return sums, counts


@pytest.mark.parametrize("micro_batch", first_in_fast([8, 1]))
def test_log_probabilities_are_those_of_plain_peft_in_the_order_of_the_rows(lab: Lab, micro_batch: int) -> None:
    adapter = lab.adapter_0()
    base = AutoModelForCausalLM.from_pretrained(lab.model, dtype=torch.float32).eval()
    for model, file in ((base, None), (peft_model(lab.model, adapter), lora_file(adapter))):
        scored = lab.carry_out(score_request(lab, ROWS, adapter=file, micro_batch=micro_batch))
        sums, counts = plain_log_probs(lab, model)
        assert scored.n_tokens == counts
        assert scored.log_probs == pytest.approx(sums, abs=1e-3)


def test_a_row_too_long_for_the_model_is_refused_without_its_text(lab: Lab) -> None:
    long = Completed(prompt="secret " * 600, completion="x")
    with pytest.raises(TaskFailed, match="of the rows are empty, longer than the base model's 512 positions") as caught:
        lab.carry_out(score_request(lab, [*ROWS, long]))
    assert caught.value.failure.kind is FailureKind.DATA
    assert "secret" not in str(caught.value)


def test_completions_that_the_template_changes_are_not_scored(lab: Lab) -> None:
    template = OwnTemplate(name="own.jinja", text=changing("m['content'] | lower"))
    rows = [*ROWS, Completed(prompt="secret", completion="No"), Completed(prompt="secret", completion="Yes")]
    with pytest.raises(TaskFailed) as caught:
        lab.carry_out(score_request(lab, rows, template=template))
    assert str(caught.value) == (
        "the template drops part of the completion of 2 rows, or changes it: use another template"
    )


@pytest.mark.usefixtures("quick_children")
def test_a_child_scores_and_answers_with_one_model(lab: Lab, tmp_path: Path) -> None:
    phases: list[Phase] = []
    with open_child(lab, tmp_path / "cache", lab.fingerprint) as child:
        order = ScoreRequest(model=child.model, compute=child.compute, template="chat", rows=ROWS)
        from_child = child.run(order, lambda progress: phases.append(progress.phase))
        assert phases[-1] is Phase.EVALUATING
        request: ScoreRequest = score_request(lab, ROWS)
        in_process = lab.carry_out(request)
        assert from_child.log_probs == pytest.approx(in_process.log_probs, abs=1e-5)
        assert child.run(put(child, [])).texts == []
