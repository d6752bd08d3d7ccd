"""How many ranks train, on which GPUs, and what is refused."""

import os

import pytest
import torch

from agent.configuration.settings import ComputeSettings
from agent.errors import TaskFailed
from agent.train.distributed.agreement import check_end_alike, check_start_alike
from agent.train.distributed.group import Group
from agent.train.distributed.numbers import check_processes, size_of
from agent.train.process.environment import choose_gpu, gpus_from
from shared.wire.tasks.leases import FailureKind
from tests.train.conftest import Lab
from tests.train.distributed.ranks import compute

pytestmark = pytest.mark.train


@pytest.mark.parametrize(
    ("batch_size", "processes", "size"), [(8, 1, 1), (8, 2, 2), (8, 3, 2), (5, 4, 1), (6, 4, 3), (1, 8, 1), (4, 8, 4)]
)
def test_each_rank_has_as_many_rows_of_a_step(batch_size: int, processes: int, size: int) -> None:
    assert size_of(batch_size, processes) == size


@pytest.mark.parametrize(
    ("device", "visible", "names"),
    [
        ("cuda", "4,6", ["4", "6"]),
        ("cuda:1", "4,6", ["6"]),
        ("auto", "GPU-ab,GPU-cd", ["GPU-ab", "GPU-cd"]),
        ("auto", "", []),
        ("cpu", "4,6", []),
        ("cuda:1", None, ["1", "2"]),
    ],
)
def test_ranks_get_the_gpus_from_that_of_the_settings_on(
    device: str, visible: str | None, names: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "environ", dict(os.environ))
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 3)  # as on a machine with three
    os.environ.pop("CUDA_VISIBLE_DEVICES", None)
    if visible is not None:
        os.environ["CUDA_VISIBLE_DEVICES"] = visible
    assert gpus_from(device) == names
    choose_gpu(device)
    if names:
        assert os.environ["CUDA_VISIBLE_DEVICES"] == names[0], "rank 0 sees the first of them"


def test_more_processes_than_gpus_are_refused_in_words() -> None:
    check_processes(2, torch.device("cuda", 0), 2)
    check_processes(1, torch.device("mps"), 0)
    check_processes(8, torch.device("cpu"), 0)
    with pytest.raises(TaskFailed, match=r"compute\.processes in agent\.toml is 4, one for each GPU.*set it to 2"):
        check_processes(4, torch.device("cuda", 0), 2)
    with pytest.raises(TaskFailed, match="CPUs or CUDA GPUs only, not on mps") as caught:
        check_processes(2, torch.device("mps"), 0)
    assert caught.value.failure.kind == FailureKind.BASE_MODEL


def test_a_preparation_refuses_what_cannot_train(lab: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    """Before the campaign starts: here on what says that it is a GPU."""
    monkeypatch.setattr("agent.train.jobs.context.choose_device", lambda *_: torch.device("cuda", 0))
    with pytest.raises(TaskFailed, match="there are 0"):
        lab.run(lab.work(lab.prepare_job(), compute=compute()))


class Disagreeing(Group):
    """Two ranks, of which the other one gives something else."""

    def __init__(self, other: bytes) -> None:
        super().__init__(0, 2)
        self._other = other

    def gathered(self, data: bytes) -> list[bytes]:
        return [data, self._other]


def test_ranks_that_differ_are_a_failure_and_no_update() -> None:
    tensors = {"a": torch.tensor([3.0, 4.0]), "b": torch.tensor([1.0])}
    with pytest.raises(TaskFailed, match="did not begin the same training"):
        check_start_alike(Disagreeing(b"0"), ["identity"], tensors)
    check_end_alike(Disagreeing(b"[5.001, 1.0]"), tensors)
    for other in (b"[5.1, 1.0]", b"[5.0, NaN]", b"[0.0, 0.0]"):
        with pytest.raises(TaskFailed, match="ended with different adapters"):
            check_end_alike(Disagreeing(other), tensors)


def test_one_process_is_the_default_and_its_group_tells_nobody() -> None:
    assert ComputeSettings().processes == 1
    alone = Group()
    assert alone.means([1.5, 2.0]) == [1.5, 2.0]
    assert alone.gathered(b"x") == [b"x"]
