"""What an owner sees of a held update: losses and answers of the adapter without and with it."""

from pathlib import Path
from typing import Any

import pytest

from agent.configuration.settings import ComputeSettings
from agent.data.reading import read_split
from agent.orders.job_files import DELTA_FILE
from agent.orders.on_base.answer import Question
from agent.orders.review import MAX_NEW_TOKENS, N_ANSWERS, Reviewed, ReviewRequest
from shared.adapters.files import write_adapter
from shared.kinds import find
from tests.support.tiny import byte_level_bpe
from tests.train.conftest import LORA, PAIRS, ROWS, Lab, first_in_fast, read, write_rows
from tests.train.local_requests import ask, lora_file

pytestmark = pytest.mark.train


def reviewed(lab: Lab, adapter: Path, job: Any, **changes: Any) -> tuple[Reviewed, Path]:
    """Train, and review the update. Returns the review and the adapter with the update, made by hand."""
    changes = {"reference": None, **changes}
    work = lab.work(job, adapter=adapter, **changes)
    lab.run(work)
    start = changes["reference"] or adapter
    order = ReviewRequest(
        compute=ComputeSettings(device="cpu", threads=1),
        job=work.job,
        folder=work.folder,
        cache=work.cache,
        model_path=work.model_path,
        data=work.data or lab.source(),
        adapter=adapter,
        update=work.folder / DELTA_FILE,
        reference=changes["reference"],
        micro_batch=4,
        remote_code=False,
    )
    assert start.exists()
    tensors = read(adapter)
    for name, values in read(order.update, like=adapter).items():
        tensors[name][tuple(slice(n) for n in values.shape)] += values
    path = work.folder / "after.safetensors"
    write_adapter(path, tensors)
    return lab.carry_out(order), path


def loss_of(lab: Lab, adapter: Path, reference: Path | None = None, **changes: Any) -> float:
    work = lab.work(lab.evaluate_job(adapter, **changes), adapter=adapter, reference=reference)
    return float(lab.run(work).metrics["held_out_loss"])


CASES = [(LORA.rank, False, "float32"), (2, False, "int8"), (LORA.rank, True, "float32")]


@pytest.mark.parametrize("case", first_in_fast(CASES))
def test_losses_and_answers_are_those_of_the_adapter_without_and_with_the_update(
    lab: Lab, case: tuple[int, bool, str]
) -> None:
    rank, freeze_a, wire = case
    lora = LORA.model_copy(update={"freeze_a": freeze_a})
    adapter = lab.adapter_0()
    found, after = reviewed(lab, adapter, lab.train_job(adapter, lora=lora, rank=rank, wire=wire, learning_rate=0.05))
    assert found.problem == ""
    assert found.loss_before == pytest.approx(loss_of(lab, adapter), abs=1e-6)
    assert found.loss_after == pytest.approx(loss_of(lab, after), abs=1e-6)
    assert found.loss_after != found.loss_before
    assert found.unit == "nats a token"
    held_out = read_split(lab.source().named("d"), find("sft")).held_out
    assert found.n_rows == len(held_out)
    rows = [each.row for each in held_out[:N_ANSWERS]]
    questions = [Question(prompt=row.prompt, input=row.input) for row in rows]
    for weights, texts in (
        (adapter, [each.before for each in found.answers]),
        (after, [e.after for e in found.answers]),
    ):
        how = {"adapter": lora_file(weights), "questions": questions, "max_new_tokens": MAX_NEW_TOKENS}
        assert texts == ask(lab, **how)
    assert [each.prompt for each in found.answers] == [
        f"{row.prompt}\n\n{row.input}" if row.input else row.prompt for row in rows
    ]


def test_preferences_have_a_loss_and_answers_too(lab: Lab) -> None:
    adapter = lab.adapter_0()
    kind = {"training_kind": "dpo", "kind_params": {"beta": 0.3}}
    job = lab.train_job(adapter, learning_rate=0.01, **kind)
    found, after = reviewed(lab, adapter, job, reference=adapter)
    assert found.loss_before == pytest.approx(loss_of(lab, adapter, adapter, **kind), abs=1e-6)
    assert found.loss_after == pytest.approx(loss_of(lab, after, adapter, **kind), abs=1e-6)
    assert found.unit == "nats a pair"
    prompts = {row["instruction"] for row in PAIRS}
    assert len(found.answers) == N_ANSWERS
    assert all(each.prompt.partition("\n\n")[0] in prompts for each in found.answers)


def test_without_held_out_rows_it_says_so(lab: Lab) -> None:
    adapter = lab.adapter_0()
    found, _ = reviewed(lab, adapter, lab.train_job(adapter), data=lab.source(held_out=0))
    assert found == Reviewed(problem="no rows of d are held out, so there is nothing to compare on")


def test_prompts_that_leave_no_room_for_an_answer_are_passed_over(lab: Lab, tmp_path: Path) -> None:
    adapter = lab.adapter_0()
    long = {"instruction": "water " * 90, "input": "", "output": "rises"}
    held_out = write_rows(tmp_path / "held.jsonl", [long, ROWS[0], long])
    data = lab.source(held_out=0, held_out_path=held_out)
    found, _ = reviewed(lab, adapter, lab.train_job(adapter), data=data)
    assert [each.prompt.partition("\n\n")[0] for each in found.answers] == [ROWS[0]["instruction"]]
    # a row that fits into the model's 512 positions, and leaves no room for an answer beside it
    per_word = len(byte_level_bpe()(" water" * 100).input_ids) / 100
    nearly_full = {**long, "instruction": "water " * int(480 / per_word)}
    only_full = lab.source(held_out=0, held_out_path=write_rows(tmp_path / "full.jsonl", [nearly_full]))
    found, _ = reviewed(lab, adapter, lab.train_job(adapter, max_length=512), data=only_full)
    assert (found.answers, found.problem) == ((), "no held-out prompt is short enough to be answered")
    assert found.loss_after is not None
