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


def test_a_start_of_the_coordinator_imports_and_builds_nothing_before_its_use() -> None:
    code = """
import sys, coordinator.app
from pydantic import BaseModel

def below(base):
    return [each for kind in base.__subclasses__() for each in (kind, *below(kind))]

unneeded = ("httpx", "markdown_it", "asyncpg", "uvicorn", "alembic", "rich", "typer")
print([name for name in unneeded if name in sys.modules])
messages = [kind for kind in below(BaseModel) if kind.__module__.startswith("shared.wire.")]
print(len(messages) > 50, sorted(kind.__name__ for kind in messages if kind.__pydantic_complete__))
"""
    ran = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    # the generic class of pages, and a message that is made as a default
    assert ran.stdout == "[]\nTrue ['Page', 'VerificationRequest']\n", ran.stdout
