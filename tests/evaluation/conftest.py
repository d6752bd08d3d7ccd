"""A real child with the tiny model, and lm-evaluation-harness over the same model in this process."""

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from agent.configuration.settings import ComputeSettings
from agent.local import LocalChild
from agent.orders.on_base.model import LoraFile
from fedloom.evaluation.asking.child_model import ChildModel
from fedloom.evaluation.asking.warm_base import WarmBase
from shared.campaign.spec import BaseSection
from tests.train.conftest import Lab, _shared_lab, data_file, lab, model_folder, pairs_file, quick_children

__all__ = ["_shared_lab", "data_file", "lab", "model_folder", "pairs_file", "quick_children"]

NewChild = Callable[..., LocalChild]


@pytest.fixture
def new_child(lab: Lab, tmp_path: Path, quick_children: None) -> Iterator[NewChild]:
    """Factory of children, which end with the test. By default of the tiny model in float32."""
    children: list[LocalChild] = []

    def make(model: Path | None = None, **base: str) -> LocalChild:
        compute = ComputeSettings(device="cpu", threads=1)
        folder = tmp_path / f"child-{len(children)}"
        section = BaseSection(model="tiny/llama", **base)  # type: ignore[arg-type]
        children.append(LocalChild(section, model or lab.model, compute=compute, folder=folder))
        return children[-1]

    yield make
    for child in children:
        child.__exit__(None, None, None)


@pytest.fixture
def new_model(new_child: NewChild) -> Callable[..., ChildModel]:
    """Factory of models in a child of their own."""

    def make(adapter: LoraFile | None = None, *, micro_batch: int | None = None, **child: object) -> ChildModel:
        return ChildModel(WarmBase(new_child(**child), micro_batch=micro_batch), adapter=adapter)

    return make
