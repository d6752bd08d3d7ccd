"""Trainers that are installed in this process: the example, and wrong ones."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from agent.configuration.settings import ComputeSettings
from agent.errors import TaskFailed
from agent.train import stack
from tests.support.entry_points import write_out
from tests.support.processes import ROOT
from tests.train.conftest import Lab

EXAMPLE = ROOT / "examples" / "trainers"
WRONG = Path(__file__).parent / "wrong"


def forget() -> None:
    vars(stack.PLUGINS).pop("installed", None)
    stack.find.cache_clear()


@pytest.fixture(scope="session")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the distributions, as pip would lay them out."""
    folder = tmp_path_factory.mktemp("site")
    for source in (EXAMPLE, WRONG):
        write_out(source, folder)
    return folder


@pytest.fixture
def installed(site: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """The trainers are installed in this process while the test runs."""
    with monkeypatch.context() as patch:
        patch.syspath_prepend(str(site))
        forget()
        yield site
    forget()


def with_trainer(name: str, **settings: Any) -> ComputeSettings:
    return ComputeSettings(device="cpu", threads=1, trainer=name, **settings)


@pytest.fixture
def refusal(lab: Lab, installed: Path) -> Callable[..., TaskFailed]:
    """How a preparation with a trainer fails."""

    def refused(name: str, **job: Any) -> TaskFailed:
        with pytest.raises(TaskFailed) as caught:
            lab.run(lab.work(lab.prepare_job(**job), compute=with_trainer(name)))
        return caught.value

    return refused
