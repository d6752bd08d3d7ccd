"""Local requests (answer, score, merge) to the tiny model, and plain PEFT to compare their results with."""

from pathlib import Path
from typing import Any

import torch
from peft import LoraConfig, get_peft_model, set_peft_model_state_dict
from transformers import AutoModelForCausalLM

from agent.configuration.settings import ComputeSettings
from agent.orders.on_base.answer import AnswerRequest, Question
from agent.orders.on_base.merge import MergeRequest
from agent.orders.on_base.model import LocalModel, LoraFile
from agent.orders.on_base.score import Completed, ScoreRequest
from shared.campaign.spec import BaseSection
from tests.train.conftest import LORA, Lab, read

QUESTIONS = [
    Question(prompt="What does the water do now?"),
    Question(prompt="Why?"),
    Question(prompt="What does the engine do at night?", input="Think of the melt number 3, and of the school again."),
    Question(prompt="river"),
    Question(prompt="the heart breaks and the bread grows slowly, what does the winter do after all of that?"),
]


def lora_file(weights: Path) -> LoraFile:
    return LoraFile(weights=weights, lora=LORA)


def local_fields(lab: Lab, **changes: Any) -> dict[str, Any]:
    """Fields of a local order: *changes*, of which those that belong to the model are put there."""
    fields = {
        "base": BaseSection(model="tiny/llama"),
        "path": lab.model,
        "fingerprint": lab.fingerprint,
        "cache": lab.folder / "cache",
    }
    model = LocalModel(**{name: changes.pop(name, value) for name, value in fields.items()})
    return {"model": model, "compute": ComputeSettings(device="cpu", threads=1)} | changes


def answer_request(lab: Lab, **changes: Any) -> AnswerRequest:
    fields = {"adapter": None, "template": "chat", "questions": QUESTIONS, "max_new_tokens": 20, "micro_batch": 1}
    return AnswerRequest(**local_fields(lab, **(fields | changes)))


def score_request(lab: Lab, rows: list[Completed], **changes: Any) -> ScoreRequest:
    fields = {"adapter": None, "template": "chat", "rows": rows, "micro_batch": 8}
    return ScoreRequest(**local_fields(lab, **(fields | changes)))


def merge_request(lab: Lab, adapter: Path, folder: Path, **changes: Any) -> MergeRequest:
    folder.mkdir()
    fields = {"adapter": lora_file(adapter), "dtype": "float32", "folder": folder}
    return MergeRequest(**local_fields(lab, **(fields | changes)))


def ask(lab: Lab, **changes: Any) -> list[str]:
    """The answers, made in this process. The progress reports are in ``lab.reports``."""
    lab.reports, pieces = [], []
    texts = lab.worker.carry_out(answer_request(lab, **changes), lab.reports.append, pieces.append).texts
    assert not pieces or "".join(pieces) == texts[0]
    return texts


def peft_model(folder: Path, adapter: Path) -> Any:
    """The base with the adapter, loaded by PEFT alone, in float32."""
    config = LoraConfig(r=LORA.rank, lora_alpha=LORA.alpha, target_modules=LORA.target_modules, task_type="CAUSAL_LM")
    model = get_peft_model(AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32), config)
    loaded = set_peft_model_state_dict(model, {name: torch.from_numpy(value) for name, value in read(adapter).items()})
    assert not loaded.unexpected_keys
    return model.eval()
