"""The ranks of one training, and what they tell one another.

accelerate finds the group by its environment variables, wraps the model in DDP, and gives each rank its own batches.
"""

import os
import socket
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path

import torch
import torch.distributed as dist
from accelerate.state import AcceleratorState
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

_TIMEOUT = timedelta(days=1)
"""A rank that ends is noticed at once, by its process. So this is only a bound on how long a rank may load its base."""


class Group:
    """The ranks of a training, from 0 to *size* − 1, and this process's one. A single rank needs no process group."""

    def __init__(self, rank: int = 0, size: int = 1, device: torch.device | None = None) -> None:
        """device: where the backend takes tensors from."""
        self.rank, self.size = rank, size
        self._device = device

    def means(self, values: Sequence[float]) -> list[float]:
        """The mean over the ranks of each of some values."""
        if self.size == 1:
            return list(values)
        total = torch.tensor(values, dtype=torch.float64, device=self._device)  # (n,)
        dist.all_reduce(total)
        means: list[float] = (total / self.size).tolist()
        return means

    def gathered(self, data: bytes) -> list[bytes]:
        """What each rank gives, by rank."""
        if self.size == 1:
            return [data]
        [lengths] = self._all(torch.tensor([[len(data)]])).T.tolist()
        own = torch.zeros((1, max(lengths)), dtype=torch.uint8)
        own[0, : len(data)] = torch.frombuffer(bytearray(data), dtype=torch.uint8) if data else 0
        return [bytes(row[:n].numpy()) for row, n in zip(self._all(own), lengths, strict=True)]

    def _all(self, row: Tensor) -> Tensor:
        """The rows of all ranks. row: (1, n). Returns (size, n), on the CPU."""
        own = row.to(self._device)
        rows = [torch.empty_like(own) for _ in range(self.size)]
        dist.all_gather(rows, own)
        return torch.cat(rows).cpu()


ALONE = Group()


@contextmanager
def process_group(rank: int, size: int, store: Path, device: torch.device) -> Iterator[Group]:
    """Form the group of a training, for the duration of the block. After an error in it the process must end.

    The ranks find each other by a file, and talk by the loopback interface: nothing listens on others.

    Args:
        rank: this process's.
        size: how many there are.
        store: a file that does not exist yet, the same for all.
        device: where this rank trains, ``cpu`` or ``cuda``.
    """
    variables = _variables(rank, size)
    before = {name: os.environ.get(name) for name in variables}
    os.environ.update(variables)
    dist.init_process_group(
        "nccl" if device.type == "cuda" else "gloo",
        store=dist.FileStore(str(store), size),
        rank=rank,
        world_size=size,
        timeout=_TIMEOUT,
        device_id=device if device.type == "cuda" else None,
    )
    yield Group(rank, size, device)
    dist.destroy_process_group()
    AcceleratorState._reset_state(reset_partial_state=True)
    for name, value in before.items():
        os.environ.pop(name, None)
        if value is not None:
            os.environ[name] = value


def synchronise_only_trained(model: nn.Module) -> None:
    """Have DDP leave alone what is frozen in *model*, and all buffers: each rank has them from the same files."""
    tensors = (*model.named_parameters(), *model.named_buffers())
    DistributedDataParallel._set_params_and_buffers_to_ignore_for_model(
        model, [name for name, tensor in tensors if not tensor.requires_grad]
    )


def _variables(rank: int, size: int) -> Mapping[str, str]:
    """What accelerate's launcher would set. Each rank sees one device, as if it were alone on its machine."""
    loopback = next((name for _, name in socket.if_nameindex() if name.startswith("lo")), "lo")
    return {
        "RANK": str(rank),
        "WORLD_SIZE": str(size),
        "LOCAL_RANK": "0",
        "LOCAL_WORLD_SIZE": "1",
        "MASTER_ADDR": "127.0.0.1",  # accelerate asks for it; nobody listens there
        "MASTER_PORT": "0",
        "GLOO_SOCKET_IFNAME": loopback,
        "NCCL_SOCKET_IFNAME": loopback,
        "NCCL_IB_DISABLE": "1",
        "OMP_NUM_THREADS": str(torch.get_num_threads()),  # without it accelerate chooses the number of threads
    }
