"""Fixtures of the attacks: the owner's base model, and a running agent for the tests of one file."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.attacks.attacked import Attacked, attacked


@pytest.fixture(scope="session")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The owner's base model."""
    from tests.support.tiny import make_model

    return make_model(tmp_path_factory.mktemp("base") / "tiny")


@pytest.fixture(scope="module")
def owner(tmp_path_factory: pytest.TempPathFactory, model: Path) -> Iterator[Attacked]:
    """An agent that accepts each campaign that nothing refuses, under the default policy otherwise. Tests of one file
    share it, each with campaigns of its own."""
    with attacked(tmp_path_factory.mktemp("attack"), model, 'accept = "any"\nmax_campaigns = 20\n') as running:
        yield running
