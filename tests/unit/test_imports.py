"""Dependencies of each package: the light ones start without the heavy libraries."""

import subprocess
import sys

import pytest

HEAVY = ["torch", "transformers", "peft", "trl", "datasets", "accelerate"]
SERVICE = ["fastapi", "sqlalchemy", "uvicorn", "alembic"]


@pytest.mark.parametrize(
    ("modules", "absent"),
    [
        (["coordinator.main", "coordinator.app"], [*HEAVY, "agent", "fedloom"]),
        (["agent.main", "agent.local", "agent.orders.table"], [*HEAVY, *SERVICE, "coordinator", "fedloom"]),
        (["fedloom.cli", "fedloom.client"], [*HEAVY, *SERVICE, "coordinator"]),
        (
            ["shared.campaign.file", "shared.adapters.files"],
            [*HEAVY, *SERVICE, "httpx", "coordinator", "agent", "fedloom"],
        ),
    ],
)
def test_starts_without(modules: list[str], absent: list[str]) -> None:
    blocked = "".join(f"sys.modules[{name!r}] = None\n" for name in absent)
    imports = "".join(f"import {name}\n" for name in modules)
    subprocess.run([sys.executable, "-c", f"import sys\n{blocked}{imports}"], check=True)
