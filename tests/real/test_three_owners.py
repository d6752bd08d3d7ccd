"""Three owners, each with its own data, processes and one approval, fine-tune SmolLM2 together over HTTP.

Their settings have no policy of their own, so every default limit binds.
"""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from agent.record.record import OwnerRecord
from tests.real.conftest import (
    Writer,
    code_rows,
    finance_rows,
    medical_rows,
    write_csv,
    write_json,
    write_jsonl,
)
from tests.support.processes import AgentProcess, CoordinatorProcess, ended

MODEL = "HuggingFaceTB/SmolLM2-135M-Instruct"
MAX_LENGTH = 96
N_ROWS, N_HELD_OUT = 200, 24
ROUNDS = 2

CAMPAIGN: dict[str, Any] = {
    "name": "three-owners",
    "base": {"model": MODEL},
    "lora": {"rank": 8, "alpha": 16, "target_modules": "all-linear"},
    "training": {"steps": 6, "batch_size": 8, "max_length": MAX_LENGTH, "learning_rate": 1e-3, "seed": 1},
    "data": {"name": "own", "template": "chat"},
    "rounds": ROUNDS,
    "selection": {"minimum": 3},
    "evaluation": {"every": ROUNDS},
}


def make_owner(
    coordinator: CoordinatorProcess,
    folder: Path,
    name: str,
    rows: list[dict[str, str]],
    columns: dict[str, str],
    write: Writer,
    suffix: str,
    model: Path,
) -> AgentProcess:
    agent = AgentProcess(folder / name)
    lines = [
        "[compute]",
        "threads = 1",
        "micro_batch = 4",
        "[models]",
        f'"{MODEL}" = "{model}"',
        "[data.own]",
        f'path = "train{suffix}"',
        f'held_out_path = "held_out{suffix}"',
        *(f'{column} = "{name}"' for column, name in columns.items()),
    ]
    agent.enroll(coordinator, "")
    (agent.home / "agent.toml").write_text("\n".join(lines) + "\n")
    write(agent.home / f"train{suffix}", rows[:N_ROWS])
    write(agent.home / f"held_out{suffix}", rows[-N_HELD_OUT:])
    return agent


def approve(owner: AgentProcess) -> None:
    """Approve the campaign once it has asked, as the owner does beside the running agent."""
    owner.process.wait_to_print("waits for you")
    [asked] = OwnerRecord(owner.home).campaigns.named("three-owners")
    home = ["--home", str(owner.home)]
    approve = [sys.executable, "-m", "fedloom", "agent", "approve", asked.spec_sha256, "--yes", *home]
    subprocess.run(approve, check=True, capture_output=True)


PLAIN_LOSS = """
import json, sys
from pathlib import Path
import torch
from peft import PeftModel
from transformers import AutoModelForCausalLM, AutoTokenizer

torch.set_num_threads(2)
base, adapter, rows_path, max_length = sys.argv[1], sys.argv[2], sys.argv[3], int(sys.argv[4])
tokenizer = AutoTokenizer.from_pretrained(base)
model = PeftModel.from_pretrained(AutoModelForCausalLM.from_pretrained(base, dtype=torch.float32), adapter).eval()
total, count = 0.0, 0
for row in json.loads(Path(rows_path).read_text()):
    prompt = tokenizer.apply_chat_template(
        [{"role": "user", "content": row["prompt"]}], add_generation_prompt=True, tokenize=False
    )
    ids = tokenizer(prompt, add_special_tokens=False).input_ids
    answer = tokenizer(row["completion"] + "<|im_end|>", add_special_tokens=False).input_ids
    tokens = (ids + answer)[:max_length]
    if len(tokens) <= len(ids):
        continue
    labels = torch.tensor([-100] * len(ids) + tokens[len(ids):])
    with torch.no_grad():
        logits = model(torch.tensor([tokens])).logits[0, :-1].float()
    total += torch.nn.functional.cross_entropy(logits, labels[1:], ignore_index=-100, reduction="sum").item()
    count += int((labels[1:] != -100).sum())
print(json.dumps({"loss": total / count, "tokens": count}))
"""


@pytest.mark.timeout(900)
def test_three_owners_learn_together_and_plain_peft_agrees(tmp_path: Path, smollm2: Path) -> None:
    finance, medical, code = finance_rows(), medical_rows(), code_rows()
    coordinator = CoordinatorProcess(tmp_path / "coordinator")
    owners = [
        make_owner(coordinator, tmp_path, "bank", finance, {}, write_jsonl, ".jsonl", smollm2),
        make_owner(
            coordinator,
            tmp_path,
            "clinic",
            medical,
            {"prompt": "question", "completion": "answer"},
            write_csv,
            ".csv",
            smollm2,
        ),
        make_owner(
            coordinator,
            tmp_path,
            "studio",
            code,
            {"prompt": "instruction", "input": "input", "completion": "output"},
            write_json,
            ".json",
            smollm2,
        ),
    ]
    with ended(coordinator, *owners):
        for owner in owners:
            owner.start()
        operator = coordinator.operator
        campaign_id = operator.post("/v1/campaigns", CAMPAIGN)["id"]
        for owner in owners:
            approve(owner)
        campaign = operator.wait_for(campaign_id, "completed", "paused", timeout_s=800)
        assert campaign["state"] == "completed", campaign["reason"]
        metrics = operator.items(f"/v1/campaigns/{campaign_id}/metrics", name="held_out_loss")
        tokens = operator.items(f"/v1/campaigns/{campaign_id}/metrics", name="held_out_tokens", round=ROUNDS)
        folder = tmp_path / "pulled"
        pull = [sys.executable, "-m", "fedloom", "adapter", "pull", campaign_id, "--out", str(folder)]
        key = operator.http.headers["Authorization"].partition(" ")[2]
        subprocess.run(pull, check=True, env={**os.environ, "FEDLOOM_URL": coordinator.url, "FEDLOOM_KEY": key})
    losses = {(row["agent_name"], row["round"]): row["value"] for row in metrics}
    for owner in ("bank", "clinic", "studio"):
        assert losses[owner, ROUNDS] < losses[owner, 0] - 0.05, losses
    for owner in owners:
        logs = "".join(log.read_text() for log in (owner.home / "logs").iterdir())
        assert logs.count("base model loaded") == 1
    held_out = {
        "bank": finance[-N_HELD_OUT:],
        "clinic": [{"prompt": row["question"], "completion": row["answer"]} for row in medical[-N_HELD_OUT:]],
        "studio": [
            {
                "prompt": row["instruction"] + (f"\n\n{row['input']}" if row["input"] else ""),
                "completion": row["output"],
            }
            for row in code[-N_HELD_OUT:]
        ],
    }
    n_tokens = {row["agent_name"]: row["value"] for row in tokens}
    for owner, rows in held_out.items():
        path = tmp_path / f"{owner}.json"
        path.write_text(json.dumps(rows))
        argv = [sys.executable, "-c", PLAIN_LOSS, str(smollm2), str(folder), str(path), str(MAX_LENGTH)]
        plain = json.loads(subprocess.run(argv, check=True, capture_output=True, text=True, cwd=tmp_path).stdout)
        # what an owner reports is rounded: two digits of the tokens, three of the loss
        assert f"{plain['tokens']:.1e}" == f"{n_tokens[owner]:.1e}"
        assert plain["loss"] == pytest.approx(losses[owner, ROUNDS], abs=0.006)
