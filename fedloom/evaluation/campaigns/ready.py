"""A benchmark as it can run here: its items, and the digest by which numbers of several machines are compared."""

import json
import logging
from dataclasses import dataclass

from agent import __version__
from agent.benchmarks.interface import Asked
from fedloom.errors import FedloomError
from fedloom.evaluation.running.plan import Plan
from fedloom.evaluation.running.ready import ReadyTask, prepare
from fedloom.evaluation.tasks.registry import find_task
from shared.digest import sha256_hex
from shared.wire.benchmarks import OfferedBenchmark

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class ReadyBenchmark:
    """A benchmark that can run.

    Args:
        task: with its items.
        offer: its items, as the coordinator hears of them.
    """

    task: ReadyTask
    offer: OfferedBenchmark


class CannotRun(Exception):
    """A benchmark cannot run here. The text is for the owner."""


def made_ready(asked: Asked, name: str) -> ReadyBenchmark:
    """Read the data of a benchmark, and see whether it can run. Raises CannotRun, whatever is wrong."""
    try:
        task = find_task(name)
        task.run_untrusted_code, task.seed = False, asked.seed
        [ready] = prepare(Plan([task], [], "", asked.data, asked.limit, asked.seed))
    except (FedloomError, OSError) as error:
        raise CannotRun(str(error)) from error
    except Exception as error:  # a file may be wrong in ways that nobody thought of, and other work goes on
        log.debug("benchmark %s", name, exc_info=True)
        raise CannotRun(f"its data cannot be read ({type(error).__name__}: {error})") from error
    if not ready.can_run:
        raise CannotRun(ready.facts.not_run)
    offer = OfferedBenchmark(
        name=name,
        n_items=len(ready.items),
        n_published=max(ready.facts.n_published, len(ready.items)),
        items_sha256=_digest(ready, asked.seed),
    )
    return ReadyBenchmark(ready, offer)


def _digest(ready: ReadyTask, seed: int) -> str:
    """What makes numbers comparable: items, data, metrics, prompts and rules, and the seed of sampled replies.

    Files count by their digests and not by where they lie. Prompts and rules are those of a version of Fedloom.
    """
    facts = ready.identity()
    facts |= {"data": sorted(facts["data"].values()), "seed": seed, "rules": __version__}
    return sha256_hex(json.dumps(facts, sort_keys=True).encode())
