"""Compares the encodings of updates: bytes that left, and the final held-out loss, each against float32's in one run.

    python benchmarks/wire.py                    # the quickstart's campaign, as in make demo
    python benchmarks/wire.py --model /models/smollm2-135m-instruct --data rows.json --rounds 3 --steps 4

Each encoding is a simulation of three owners with a real coordinator, real HTTP and equal seeds. The bytes are those of
the files in the first owner's ledger. The last row leaves out the feedback: what rounding takes is lost.
"""

import argparse
import json
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any, get_args
from unittest.mock import patch

ROOT = Path(__file__).resolve().parents[1]
QUICKSTART = ROOT / "examples" / "quickstart"
sys.path[:0] = [str(ROOT), str(QUICKSTART)]

import yaml  # noqa: E402
from make_data import make_data  # noqa: E402
from rows import Ratio, Row, add_option, at_least, at_most, write  # noqa: E402

from agent.configuration.settings import load_settings  # noqa: E402
from agent.ledger.files import entries  # noqa: E402
from agent.ledger.summary import outflows  # noqa: E402
from agent.workspace import Workspace  # noqa: E402
from fedloom.simulation.partition_plan import PartitionKind, PartitionPlan  # noqa: E402
from fedloom.simulation.run import Run, running  # noqa: E402
from fedloom.simulation.simulation import Simulation  # noqa: E402
from shared.campaign.spec import CampaignSpec, Wire  # noqa: E402
from shared.metrics import HELD_OUT_LOSS  # noqa: E402
from shared.states import BlobKind  # noqa: E402

OWNERS = 3


@dataclass(frozen=True)
class Measured:
    """A campaign with one encoding: bytes of the first owner's updates, held-out losses before and after, seconds."""

    n_bytes: int
    first_loss: float
    last_loss: float
    seconds: float


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", type=Path, help="folder of a base model; by default the quickstart's")
    parser.add_argument("--data", type=Path, help="rows in any format that agents read; needed with --model")
    parser.add_argument("--template", default="alpaca", help="of these rows (default alpaca)")
    parser.add_argument("--held-out", type=float, default=0.06, help="share of these rows (default 0.06)")
    parser.add_argument("--algorithm", default="fedavg")
    parser.add_argument("--rounds", type=int, help="by default the campaign's 10")
    parser.add_argument("--steps", type=int, help="per round; by default the campaign's 10")
    parser.add_argument("--rate", type=float, help="learning rate; by default 2e-3, with --model 3e-4")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--threads", type=int, default=1)
    add_option(parser)
    given = parser.parse_args()
    if (given.model is None) != (given.data is None):
        parser.error("give both --model and --data, or neither")
    runs: list[tuple[str, Wire, bool]] = [(wire, wire, True) for wire in get_args(Wire)]
    runs.append(("int8, no feedback", "int8", False))
    reference = None
    rows: list[Row] = []
    print("wire               bytes of updates     fewer   held-out loss            to float32        s")
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        settings = write_files(given, folder)
        for number, (title, wire, feeds_back) in enumerate(runs):
            found = measure(campaign(given, wire), settings, folder / str(number), feeds_back=feeds_back, given=given)
            reference = reference or found
            print(
                f"{title:17}  {found.n_bytes:16,}  {reference.n_bytes / found.n_bytes:6.3f} x"
                f"   {found.first_loss:.5f} -> {found.last_loss:.5f}"
                f"  {found.last_loss / reference.last_loss - 1:+10.4%}  {found.seconds:7.0f}",
                flush=True,
            )
            rows += rows_of(title, wire, found, reference) if feeds_back and wire != "float32" else []
    write(given.json, rows)


def rows_of(title: str, wire: Wire, found: Measured, reference: Measured) -> list[Row]:
    """The rows of an encoding: its bytes and its loss beside float32's."""
    fewer = reference.n_bytes / found.n_bytes
    loss = Ratio(found.last_loss / reference.last_loss, "float32")
    return [
        Row(f"{title}: how many times fewer bytes", fewer, "x", goal=at_least(1.95 if wire == "bfloat16" else 3.8)),
        Row(f"{title}: final held-out loss", found.last_loss, "nats a token", loss, at_most(1.01, "ratio")),
    ]


def write_files(given: argparse.Namespace, folder: Path) -> Path:
    """Write the owners' settings, and the quickstart's rows. Returns the settings."""
    if given.model is None:
        make_data(folder / "data", given.seed)
    name, path = ("records", "data/records.jsonl") if given.model is None else ("rows", str(given.data.resolve()))
    model = QUICKSTART / "model" if given.model is None else given.model.resolve()
    held_out = 0.15 if given.model is None else given.held_out
    settings = folder / "agent.toml"
    settings.write_text(
        f"[data.{name}]\npath = {json.dumps(path)}\nheld_out = {held_out}\n"
        f'[models]\n"fedloom/quickstart" = {json.dumps(str(model))}\n'
        f'[compute]\ndevice = "cpu"\nthreads = {given.threads}\n'
    )
    return settings


def campaign(given: argparse.Namespace, wire: Wire) -> CampaignSpec:
    """The quickstart's campaign with what was given; another model has longer rows and smaller steps."""
    content: dict[str, Any] = yaml.safe_load((QUICKSTART / "campaign.yaml").read_text(encoding="utf-8"))
    content |= {"wire": wire, "algorithm": {"name": given.algorithm}}
    training = content["training"] | {"seed": given.seed}
    if given.model is not None:
        content["data"] = {"name": "rows", "template": given.template}
        training |= {"batch_size": 4, "max_length": 192, "learning_rate": 3e-4}
    if given.steps is not None:
        training["steps"] = given.steps
    if given.rate is not None:
        training["learning_rate"] = given.rate
    content["rounds"] = given.rounds or content["rounds"]
    content["evaluation"] = {"every": content["rounds"]}
    return CampaignSpec.model_validate(content | {"training": training})


def measure(
    spec: CampaignSpec, settings: Path, folder: Path, *, feeds_back: bool, given: argparse.Namespace
) -> Measured:
    """Run one campaign to its end."""
    by_owner = PartitionPlan(PartitionKind.DOMAIN, by="owner")
    plan = by_owner if given.model is None else PartitionPlan(PartitionKind.IID)
    simulation = Simulation(spec, load_settings(settings), OWNERS, plan, seed=0)
    started = time.perf_counter()
    with nullcontext() if feeds_back else without_feedback(), running(simulation, folder) as run:
        while not (found := run.campaign()).state.is_at_rest:
            time.sleep(0.2)
        if found.final_adapter is None:
            sys.exit(f"the campaign is {found.state}: {found.reason}")
        losses = held_out_losses(run)
    seconds = time.perf_counter() - started
    home = Workspace(next(path.parent for path in sorted((folder / "clients").glob("*/record.db"))))
    files = outflows(entry for entry, _ in entries(home.ledger.files))[run.campaign_id].files
    n_bytes = sum(size for (kind, _), size in files.items() if kind in (BlobKind.DELTA, BlobKind.EXTRAS))
    return Measured(n_bytes, losses[0], losses[-1], seconds)


def held_out_losses(run: Run) -> list[float]:
    """The mean losses of the adapters that were evaluated, in their order."""
    metrics = run.client.metrics(run.campaign_id, HELD_OUT_LOSS)
    return [each.value for each in metrics if each.client_number is None]


@contextmanager
def without_feedback() -> Iterator[None]:
    """Have agents find no residuals."""
    with patch.object(Workspace, "residual_of", lambda *_: None):
        yield


if __name__ == "__main__":
    main()
