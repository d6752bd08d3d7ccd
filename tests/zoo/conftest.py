"""One campaign of one round for a family's tiny model, in real processes, and plain transformers beside it."""

import csv
import json
import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

os.environ["HF_HUB_OFFLINE"] = "1"

torch = pytest.importorskip("torch")
pytest.importorskip("trl")

from agent.data.reading import read_split  # noqa: E402
from agent.data.source import DataSource  # noqa: E402
from agent.train.data.tokenizing import TextTokenizer  # noqa: E402
from agent.train.data.tokens import TokenRows  # noqa: E402
from agent.train.suitability.probe import plain_log_probabilities  # noqa: E402
from shared import kinds  # noqa: E402
from tests.support.forks import preloaded, quick_children  # noqa: E402
from tests.support.rendering import render  # noqa: E402
from tests.support.tiny import ROWS  # noqa: E402
from tests.zoo.families import TOKENIZER, Family  # noqa: E402

torch.set_num_threads(1)

COLUMNS = {"prompt": "instruction", "input": "input", "completion": "output"}
_SETTINGS = """
[compute]
threads = 1
[models]
"org/tiny" = "{model}"
[data.rows]
path = "rows.jsonl"
held_out = 0.2
"""


@dataclass(frozen=True)
class Trained:
    """A finished campaign of one round, and the process that ran it."""

    folder: Path
    model: Path
    done: "subprocess.CompletedProcess[str]"

    @property
    def adapter(self) -> Path:
        return self.folder / "out" / "adapter"

    @property
    def held_out_loss(self) -> float:
        """The reported loss of adapter 1, in nats a token, over all clients."""
        with (self.folder / "out" / "metrics.csv").open(newline="") as file:
            rows = [row for row in csv.DictReader(file) if (row["round"], row["client"]) == ("1", "")]
        return next(float(row["value"]) for row in rows if row["name"] == "held_out_loss")

    def plain_loss(self, model: Any) -> float:
        """The loss that plain transformers computes on the clients' held-out rows, in nats a token."""
        rows = [
            row
            for file in sorted((self.folder / "out" / "clients").glob("client-*/rows.jsonl"))
            for row in _held_out(file)
        ]
        texts = [render(row, "chat", TOKENIZER) for row in rows]
        tokens = TokenRows.of([row for row in TextTokenizer(TOKENIZER, 96).rows(texts) if row is not None])
        sums = plain_log_probabilities(model.eval(), tokens, torch.device("cpu"))
        return float(-sums.sum() / tokens.n_supervised.sum())


def _held_out(file: Path) -> list[Any]:
    split = read_split(DataSource(path=file, held_out=0.2), kinds.find("sft"))
    return [located.row for located in split.held_out]


def train(family: Family, folder: Path, targets: tuple[str, ...] = ()) -> Trained:
    """Run the campaign. targets: the campaign's target modules; all-linear if empty."""
    model = family.make(folder / "model")
    (folder / "rows.jsonl").write_text("\n".join(map(json.dumps, ROWS[:40])))
    (folder / "agent.toml").write_text(_SETTINGS.format(model=model))
    campaign = {
        "name": "zoo",
        "base": {"model": "org/tiny"},
        "lora": {"rank": 4, "alpha": 8, "target_modules": list(targets) or "all-linear"},
        "training": {"steps": 4, "batch_size": 4, "max_length": 96, "learning_rate": 0.01, "seed": 3},
        "data": {"name": "rows"},
        "rounds": 1,
        "selection": {"clients_per_round": 2, "minimum": 2},
    }
    (folder / "campaign.json").write_text(json.dumps(campaign))
    command = [sys.executable, "-m", "fedloom", "simulate", str(folder / "campaign.json"), "--out", str(folder / "out")]
    environment = {"FEDLOOM_ENGINE__POLL_S": "0.05", **quick_children.environment()}
    return Trained(folder, model, preloaded.run([*command, "--clients", "2"], **environment))
