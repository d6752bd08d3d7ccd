"""Random interleavings of the steps of agents, operators, engines and clocks: the invariants hold after each step."""

import os
from pathlib import Path

import pytest
from hypothesis import HealthCheck, Phase, seed, settings
from hypothesis.stateful import run_state_machine_as_test

from tests.faults.interleavings.machine import Interleavings
from tests.faults.interleavings.world import World
from tests.support.suite.seeds import seed_of_today

MORE = int(os.environ.get("FEDLOOM_FAULT_EXAMPLES") or 0)


@pytest.mark.fault
@pytest.mark.timeout(7200)
@pytest.mark.parametrize(
    ("database_url", "examples", "steps"),
    [
        pytest.param("sqlite", 2, 40, id="sqlite"),
        pytest.param("sqlite", 10, 40, id="sqlite, more", marks=pytest.mark.soak),
        pytest.param("postgres", 3, 40, id="postgres", marks=pytest.mark.deep),
        pytest.param("sqlite", 200, 80, id="sqlite, many", marks=pytest.mark.soak),
        pytest.param("postgres", 200, 80, id="postgres, many", marks=pytest.mark.soak),
    ],
    indirect=["database_url"],
)
def test_the_invariants_hold_in_any_order_of_steps(
    data_dir: Path, database_url: str | None, examples: int, steps: int
) -> None:
    with World(data_dir, database_url).opened() as world:
        run_state_machine_as_test(
            seed(seed_of_today())(lambda: Interleavings(world)),
            settings=settings(
                max_examples=MORE or examples,
                stateful_step_count=steps,
                deadline=None,
                database=None,
                phases=(Phase.generate, Phase.shrink),
                suppress_health_check=list(HealthCheck),
                print_blob=True,
                report_multiple_bugs=False,
            ),
        )
