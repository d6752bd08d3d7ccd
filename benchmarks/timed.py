"""Notes when functions ran, in the process that this module is imported into: round_overhead.py reads it.

    python timed.py agent HOME COORDINATOR TOKEN SETTINGS    # an agent, whose child is the following
    python timed.py child                                    # a training child

FEDLOOM_TIMES names a folder. Each process writes a file of lines there: a part's name, and when it began and ended, in
seconds since the epoch. Parts of one process do not overlap.
"""

import importlib
import inspect
import json
import os
import sys
import time
from collections.abc import Callable
from functools import wraps
from pathlib import Path
from typing import IO, Any

AGENT_PARTS = {
    "agent.network.api:CoordinatorApi.acquire": "lease",
    "agent.network.transfer:AdapterCache.fetch": "download",
    "agent.child.supervisor:Supervisor.run": "child",
    "agent.running.runner:upload": "upload",
    "agent.network.api:CoordinatorApi.put_result": "result",
}
CHILD_PARTS = {
    "agent.train.jobs.run:JobContext": "base model found",
    "agent.train.jobs.train:check_start": "adapter checked",
    "agent.train.jobs.context:JobContext.data": "rows found",
    "agent.train.base.model:attach": "adapter attached",
    "agent.train.jobs.train:load_adapter": "adapter loaded",
    "agent.train.jobs.train:build_trainer": "trainer built",
    "agent.train.jobs.train:make_examples": "examples made",
    "agent.train.base.attached:AttachedAdapter.tensors": "values copied",
    "agent.train.trainer.federated:FederatedTrainerMixin.attach": "training begun",
    "agent.train.trainer.federated:FederatedTrainerMixin.slots": "extras computed",
    "peft.tuners.tuners_utils:BaseTuner.unload": "adapter removed",
    "agent.train.jobs.train:outgoing": "delta made ready",
    "agent.train.jobs.context:JobContext.write": "delta written",
}
BEFORE, AFTER = "from the trainer's start to its first step", "from its last step to its end"


class Times:
    """The file of this process."""

    def __init__(self) -> None:
        folder = Path(os.environ["FEDLOOM_TIMES"])
        self._file: IO[str] = (folder / f"{os.environ['FEDLOOM_AGENT']}-{os.getpid()}.jsonl").open("a")

    def note(self, part: str, began: float, detail: str = "") -> None:
        self._file.write(json.dumps([part, began, time.time(), detail]) + "\n")
        self._file.flush()

    def time(self, place: str, part: str) -> None:
        """Have the calls of a function noted. place: as "module:name"."""
        owner, name, function = found(place)

        @wraps(function)
        def called(*args: Any, **kwargs: Any) -> Any:
            began = time.time()
            try:
                return function(*args, **kwargs)
            finally:
                self.note(part, began)

        @wraps(function)
        async def awaited(*args: Any, **kwargs: Any) -> Any:
            began = time.time()
            try:
                return await function(*args, **kwargs)
            finally:
                self.note(part, began)

        setattr(owner, name, awaited if inspect.iscoroutinefunction(function) else called)


def found(place: str) -> tuple[Any, str, Callable[..., Any]]:
    """What holds a function, the function's name, and the function."""
    module, _, path = place.partition(":")
    owner: Any = importlib.import_module(module)
    *parents, name = path.split(".")
    for parent in parents:
        owner = getattr(owner, parent)
    return owner, name, getattr(owner, name)


def agent(home: Path, coordinator: str, token: str, settings: str) -> None:
    """Enrol and run an agent."""
    import httpx

    from agent import main

    main.enroll(home, coordinator, token, home.name)
    (home / "agent.toml").write_text(settings)
    times = Times()
    for place, part in AGENT_PARTS.items():
        times.time(place, part)
    send = httpx.AsyncClient.send

    async def noted(self: httpx.AsyncClient, request: httpx.Request, **kwargs: Any) -> httpx.Response:
        began = time.time()
        try:
            return await send(self, request, **kwargs)
        finally:
            times.note("request", began, f"{request.method} {request.url.path}")

    httpx.AsyncClient.send = noted  # type: ignore[method-assign]
    main.run(home, [sys.executable, __file__, "child"])


def child() -> None:
    """Be a training child, that notes its parts once it has imported them."""
    from agent.train import __main__ as started
    from agent.train.process import serving

    open_worker = serving.open_worker

    def opened(order: Any) -> Any:
        worker = open_worker(order)
        times = Times()
        for place, part in CHILD_PARTS.items():
            times.time(place, part)
        _time_steps(times)
        return worker

    serving.open_worker = opened
    started.main()


def _time_steps(times: Times) -> None:
    """Have the steps noted, and what the trainer does before its first and after its last one."""
    from transformers import Trainer

    from agent.train.trainer.federated import FederatedTrainerMixin as Mixin

    train, step, stepped = Trainer.train, Mixin.training_step, Mixin.optimizer_stepped
    at = [0.0]

    def trained(self: Any, *args: Any, **kwargs: Any) -> Any:
        at[0] = time.time()
        answer = train(self, *args, **kwargs)
        times.note(AFTER, at[0])
        return answer

    def training_step(self: Any, *args: Any, **kwargs: Any) -> Any:
        if not self.history.done and at[0]:
            times.note(BEFORE, at[0])
            at[0] = 0.0
        return step(self, *args, **kwargs)

    def optimizer_stepped(self: Any) -> None:
        stepped(self)
        at[0] = time.time()
        times.note("step", at[0])

    Trainer.train, Mixin.training_step, Mixin.optimizer_stepped = trained, training_step, optimizer_stepped


if __name__ == "__main__":
    if sys.argv[1] == "child":
        child()
    else:
        agent(Path(sys.argv[2]), *sys.argv[3:])
