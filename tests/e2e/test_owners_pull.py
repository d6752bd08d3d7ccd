"""Three owners, each in its own process, fine-tune a tiny model; one pulls the adapter that is best on its own rows."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from agent.record.bookings import WorkKind
from agent.record.record import OwnerRecord
from shared.metrics import HELD_OUT_LOSS
from tests.e2e.test_training import CAMPAIGN, SETTINGS, make_agent
from tests.support.processes import ROOT, QuickCoordinator, ended

pytestmark = [pytest.mark.train, pytest.mark.deep]

OWN_ROWS = SETTINGS.replace("held_out = 0.2", 'held_out_path = "held.jsonl"') + "[network]\nwait_s = 1\n"


def loss_by_hand(model: Path, adapter: Path, rows: list[dict[str, str]]) -> float:
    """The mean loss a token of the completions, end markers included, by PEFT and transformers alone."""
    import torch
    from peft import PeftModel
    from transformers import AutoModelForCausalLM, AutoTokenizer

    from agent.data.rows import Row
    from tests.support.rendering import render

    tokenizer = AutoTokenizer.from_pretrained(model)
    base = AutoModelForCausalLM.from_pretrained(model, dtype=torch.float32)
    tuned: Any = PeftModel.from_pretrained(base, adapter).eval()
    total, n_tokens = 0.0, 0
    for row in rows:
        text = render(Row(row["instruction"], row["input"], row["output"]), "chat", tokenizer)
        prompt, completion = (
            tokenizer(part, add_special_tokens=False).input_ids
            for part in (text.exchanges[0].prompt, text.exchanges[0].answer)
        )
        with torch.no_grad():
            log_p = tuned(torch.tensor([prompt + completion])).logits[0].log_softmax(-1)
        total -= sum(log_p[len(prompt) - 1 + i, token].item() for i, token in enumerate(completion))
        n_tokens += len(completion)
    return total / n_tokens


def test_the_own_loss_of_the_log_is_what_scoring_the_pulled_adapter_gives(tmp_path: Path) -> None:
    from tests.support.tiny import ROWS, make_model

    model = make_model(tmp_path / "model")
    lines = [json.dumps(row) for row in ROWS]
    coordinator = QuickCoordinator(tmp_path / "coordinator")
    agents = []
    for number, name in enumerate(("ada", "bob", "cyd")):
        first = number * 26
        agent = make_agent(coordinator, tmp_path / name, model, "\n".join(lines[first : first + 20]), OWN_ROWS)
        (agent.home / "held.jsonl").write_text("\n".join(lines[first + 20 : first + 26]))
        agents.append(agent)
    bob = agents[1]
    with ended(coordinator, *agents):
        for agent in agents:
            agent.start()
        campaign = {**CAMPAIGN, "rounds": 3, "selection": {"minimum": 3}}
        campaign_id = coordinator.operator.post("/v1/campaigns", campaign)["id"]
        coordinator.operator.wait_for(campaign_id, "completed", timeout_s=400)
        said = bob.process.wait_to_print(r"fedloom (agent pull tiny --adapter best-for-me --home \S+)")
        command = [sys.executable, "-m", "fedloom", *said[1].split(), "--json"]
        ran = subprocess.run(
            command,
            cwd=tmp_path,
            capture_output=True,
            text=True,
            check=True,
            env=os.environ | {"PYTHONPATH": str(ROOT)},
        )
    pulled = json.loads(ran.stdout)
    number = pulled["adapter"]["number"]
    own = {
        each.round: each.metrics[HELD_OUT_LOSS]
        for each in OwnerRecord(bob.home).measured.standing(campaign_id, WorkKind.EVALUATE)
    }
    assert set(own) == {0, 1, 2, 3}
    assert own[number] == min(own.values()) < own[0]
    [logged] = re.findall(rf"adapter {number} on 6 held-out rows: held-out loss ([\d.]+) nats", bob.process.printed())
    scored = loss_by_hand(model, Path(pulled["folder"]), ROWS[46:52])
    assert scored == pytest.approx(own[number], abs=1e-3)
    assert float(logged) == pytest.approx(own[number], abs=5.1e-5)
    assert pulled["own_metrics"][HELD_OUT_LOSS] == own[number]
