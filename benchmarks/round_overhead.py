"""Measures what a round takes beside its training steps: a real coordinator, two agents, children that train for real.

    python benchmarks/round_overhead.py [--rounds 6] [--steps 4] [--evaluate] [--algorithm fedavg]
                                        [--against CHECKOUT] [--json FILE]

The adapter has 25 MB in 448 tensors, those of a model of 7 billion weights, on a small Llama with random weights. A
round lasts from the moment in which the one before it closed until it closes. Of each round the client counts whose
result came last: nobody waited for others in its time. What it did is taken from the clocks of its processes
(``timed.py``), part by part; all parts and the steps together are the round. Medians over the rounds; the first one,
with cold children, is left out. Prints the requests of a round as well. ``--evaluate`` evaluates every adapter. Linux
only.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
from collections import Counter
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from datetime import datetime
from itertools import pairwise
from operator import attrgetter
from pathlib import Path
from typing import Any, NamedTuple

import httpx
from rounds import ROOT, answers, operators_key, process, wait_for
from rows import Ratio, Row, add_option, at_most, write
from timed import AFTER, BEFORE, CHILD_PARTS

from agent.configuration.open_policy import with_open_policy

ROUND_S = 60.0
"""The round that the overhead is compared with, in seconds."""
AGENTS = ("ada", "bob")
MODEL = """
import sys, torch
from transformers import LlamaConfig, LlamaForCausalLM
from tests.support.tiny import byte_level_bpe
tokenizer = byte_level_bpe()
config = LlamaConfig(vocab_size=len(tokenizer), hidden_size=160, intermediate_size=432, num_hidden_layers=32,
    num_attention_heads=4, num_key_value_heads=4, max_position_embeddings=512, eos_token_id=tokenizer.eos_token_id)
LlamaForCausalLM(config).save_pretrained(sys.argv[1])
tokenizer.save_pretrained(sys.argv[1])
"""
RANK = 64
SETTINGS = """
[policy]
[compute]
device = "cpu"
threads = 1
[models]
small = "{model}"
[data.notes]
path = "{rows}"
prompt = "question"
completion = "answer"
held_out = 0.2
"""


class Noted(NamedTuple):
    """A part of what a process did, in seconds since the epoch."""

    part: str
    began: float
    ended: float
    detail: str

    @property
    def seconds(self) -> float:
        return self.ended - self.began


@dataclass(frozen=True)
class Round:
    """One round of the client that was the last: its seconds, those of its steps, those of each other part."""

    seconds: float
    steps_s: float
    parts: dict[str, float]
    requests: Counter[str]

    @property
    def overhead_s(self) -> float:
        return self.seconds - self.steps_s


def measure(given: argparse.Namespace, checkout: Path) -> list[Round]:
    """Run a campaign with the code of a checkout. Returns its rounds but for the first."""
    with tempfile.TemporaryDirectory() as name, ExitStack() as stack:
        folder = Path(name)
        times, model, rows = folder / "times", folder / "model", folder / "rows.jsonl"
        times.mkdir()
        subprocess.run([sys.executable, "-c", MODEL, str(model)], check=True, cwd=ROOT, env=_environment(ROOT))
        questions = [{"question": f"What is {n} and {n}?", "answer": f"It is {2 * n}, of course."} for n in range(100)]
        rows.write_text("".join(json.dumps(each) + "\n" for each in questions))
        settings = with_open_policy(SETTINGS.format(model=model, rows=rows))
        port, log = 20000 + os.getpid() % 20000, folder / "coordinator.log"
        argv = ["-m", "fedloom", "coordinator", "serve", "--port", str(port), "--data-dir", str(folder / "data")]
        stack.enter_context(process(argv, checkout, checkout, log))
        url = f"http://127.0.0.1:{port}"
        key = wait_for(lambda: operators_key(folder / "data", log), "the operator's key")
        http = stack.enter_context(httpx.Client(base_url=url, headers={"Authorization": f"Bearer {key}"}, timeout=600))
        wait_for(lambda: answers(http), "the coordinator")
        for agent in AGENTS:
            token = http.post("/v1/tokens", json={}).raise_for_status().json()["token"]
            argv = [str(ROOT / "benchmarks" / "timed.py"), "agent", str(folder / agent), url, token, settings]
            environment = {"FEDLOOM_TIMES": str(times), "FEDLOOM_AGENT": agent, "OMP_NUM_THREADS": "1"}
            stack.enter_context(process(argv, checkout, folder, folder / f"{agent}.log", **environment))
        closed = _campaign(http, given)
        noted = {agent: _read(times, agent) for agent in AGENTS}
    return [_round(began, ended, noted) for began, ended in pairwise(closed)]


def _environment(checkout: Path) -> dict[str, str]:
    return {**os.environ, "PYTHONPATH": str(checkout), "OMP_NUM_THREADS": "1"}


def _campaign(http: httpx.Client, given: argparse.Namespace) -> list[float]:
    """Run the campaign. Returns when its rounds closed, in seconds since the epoch."""
    body = {
        "name": "overhead",
        "base": {"model": "small"},
        "lora": {"rank": RANK, "alpha": RANK},
        "training": {"steps": given.steps, "batch_size": 2, "learning_rate": 1e-4, "max_length": 64},
        "algorithm": {"name": given.algorithm},
        "data": {"name": "notes", "template": "chat"},
        "rounds": given.rounds + 1,
        "selection": {"minimum": len(AGENTS)},
        "evaluation": {"every": 1 if given.evaluate else 0},
        "retention": {"adapters": 1, "server_state": 1},
    }
    created = http.post("/v1/campaigns", json=body)
    if created.is_error:
        sys.exit(created.text)
    closed: list[float] = []
    path = f"/v1/campaigns/{created.json()['id']}/events"
    with http.stream("GET", path, headers={"Accept": "text/event-stream"}) as events:
        for line in events.iter_lines():
            if not line.startswith("data:"):
                continue
            event = json.loads(line[5:])
            if event["type"] == "round-closed":
                closed.append(datetime.fromisoformat(event["at"]).timestamp())
            elif event["type"] in ("task-failed", "participant-failed") or '"paused"' in line:
                sys.exit(f"the campaign stopped: {line}")
    return closed


def _read(folder: Path, agent: str) -> list[Noted]:
    """What an agent and its child did, in order."""
    files = folder.glob(f"{agent}-*.jsonl")
    return sorted(
        (Noted(*json.loads(line)) for file in files for line in file.read_text().splitlines()),
        key=lambda each: each.began,
    )


def _round(began: float, ended: float, noted: dict[str, list[Noted]]) -> Round:
    """The round between two moments, of the client whose result came last."""
    within = {agent: [each for each in all_ if began < each.ended <= ended] for agent, all_ in noted.items()}
    last = max(within.values(), key=lambda each: _only(each, "result")[-1].ended)
    steps_s = _only(last, "step")[-1].ended - _only(last, BEFORE)[-1].ended
    parts = _parts(began, ended, last, steps_s)
    return Round(ended - began, steps_s, parts, Counter(each.detail.split("?")[0] for each in _only(last, "request")))


def _only(noted: Sequence[Noted], part: str) -> list[Noted]:
    return [each for each in noted if each.part == part]


def _parts(began: float, ended: float, noted: Sequence[Noted], steps_s: float) -> dict[str, float]:
    """The seconds of each part of a round beside its steps. They and the steps add up to all of it."""

    def total(part: str) -> float:
        return sum(each.seconds for each in _only(noted, part))

    lease, *others = _only(noted, "lease")
    of_child = {f"child: {part}": total(part) for part in (*CHILD_PARTS.values(), BEFORE, AFTER)}
    parts = {
        "the next lease after a round closed": lease.ended - began,
        "leases of further tasks": sum(each.seconds for each in others),
        **{part: total(part) for part in ("download", "upload", "result")},
        **of_child,
        "child: else, an evaluation included": total("child") - steps_s - sum(of_child.values()),
        "coordinator: from the last result until the round closed": ended - _only(noted, "result")[-1].ended,
    }
    rest_s = ended - began - steps_s - sum(parts.values())
    return {**parts, "agent: checks, records, ledger": rest_s}


def show(name: str, rounds: Sequence[Round]) -> None:
    """Print the parts, the largest first, and the requests of the latest round."""

    def median(number: Callable[[Round], float]) -> float:
        return statistics.median(map(number, rounds))

    seconds, steps_s, overhead_s = (median(attrgetter(part)) for part in ("seconds", "steps_s", "overhead_s"))
    print(f"{name}: {len(rounds)} rounds of {seconds:.2f} s: steps {steps_s:.2f} s, beside them {overhead_s:.2f} s")
    parts = {part: median(lambda each, part=part: each.parts[part]) for part in rounds[0].parts}
    for part, seconds in sorted(parts.items(), key=lambda each: -each[1]):
        print(f"    {1000 * seconds:7.0f} ms  {part}")
    for request, n in sorted(rounds[-1].requests.items()):
        print(f"    {n:3} x {request}")


def rows_of(given: argparse.Namespace, rounds: Sequence[Round]) -> list[Row]:
    """All beside the steps, and the largest parts of it."""
    overhead_s = statistics.median(each.overhead_s for each in rounds)
    what = f"25 MB in 448 tensors, {len(AGENTS)} agents, {given.algorithm}"
    evaluated = "with an evaluation" if given.evaluate else ""
    ratio = Ratio(overhead_s / ROUND_S, f"a round of {ROUND_S:.0f} s")
    goal = None if given.evaluate else at_most(0.03, "ratio")
    found = [Row(f"a round beside its steps, {what}", overhead_s, "s", ratio, goal, evaluated)]
    parts = {part: statistics.median(each.parts[part] for each in rounds) for part in rounds[0].parts}
    for part, seconds in sorted(parts.items(), key=lambda each: -each[1])[:5]:
        found.append(Row(f"of it {part}", 1000 * seconds, "ms"))
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=6)
    parser.add_argument("--steps", type=int, default=4)
    parser.add_argument("--evaluate", action="store_true", help="Evaluate every adapter.")
    parser.add_argument("--algorithm", default="fedavg")
    parser.add_argument("--against", type=Path, help="Another checkout of Fedloom, to run after this one.")
    add_option(parser)
    given = parser.parse_args()
    checkouts: dict[str, Path] = {"this": ROOT, **({"other": given.against.resolve()} if given.against else {})}
    measured: dict[str, Any] = {}
    for name, checkout in checkouts.items():
        measured[name] = measure(given, checkout)
        show(name, measured[name])
    write(given.json, rows_of(given, measured["this"]))


if __name__ == "__main__":
    main()
