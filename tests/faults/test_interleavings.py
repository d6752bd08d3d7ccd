"""Random interleavings of all that agents, operators, engines and clocks do: what must hold holds after each step."""

import os
from pathlib import Path

import pytest
from hypothesis import HealthCheck, Phase, seed, settings
from hypothesis.stateful import run_state_machine_as_test

from tests.faults.interleavings.machine import Interleavings
from tests.faults.interleavings.world import World
from tests.support.seeds import seed_of_today

EXAMPLES = int(os.environ.get("FEDLOOM_FAULT_EXAMPLES") or (200 if os.environ.get("FEDLOOM_SOAK") else 10))
STEPS = 80 if os.environ.get("FEDLOOM_SOAK") else 40


@pytest.mark.fault
@pytest.mark.timeout(max(1200, 30 * EXAMPLES))
def test_what_must_hold_holds_whatever_comes_after_what(data_dir: Path, database_url: str | None) -> None:
    with World(data_dir, database_url).opened() as world:
        run_state_machine_as_test(
            seed(seed_of_today())(lambda: Interleavings(world)),
            settings=settings(
                max_examples=EXAMPLES,
                stateful_step_count=STEPS,
                deadline=None,
                database=None,
                phases=(Phase.generate, Phase.shrink),
                suppress_health_check=list(HealthCheck),
                print_blob=True,
                report_multiple_bugs=False,
            ),
        )
