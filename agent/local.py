"""Carries out the orders of a person at this machine, in a training child of their own.

with LocalChild(BaseSection(model="/models/tiny")) as child:
    adapter = LoraFile(weights=Path("adapter_model.safetensors"), lora=LoraSection(rank=8, alpha=16))
    questions = [Question(prompt="Why is the sky blue?")]
    order = AnswerRequest(
        model=child.model, compute=child.compute, adapter=adapter, template="chat", questions=questions
    )
    texts = child.run(order).texts
"""

import asyncio
import os
from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from agent.child.supervisor import OFFLINE, ChildDied, Supervisor, check_libraries_installed
from agent.configuration.settings import ComputeSettings
from agent.errors import BadEnvironment, TaskFailed
from agent.orders.on_base.model import LocalModel
from agent.orders.order import AnswerT, Order
from agent.orders.protocol import ChildProgress, Failed, OutOfMemory
from shared.campaign.spec import BaseSection
from shared.system.private_files import private_folder, tighten
from shared.wire.tasks.leases import FailureKind
from shared.wire.tasks.results import Fingerprint

_LOG_FILE = "child.log"


class LocalChild:
    """A training child that keeps one base model loaded. Use it as a context manager: leaving it ends the child.

    ``run`` blocks. Ctrl-C in it ends the child; the next call starts another. Each order takes the child's ``model``
    and ``compute``.

    Args:
        base: the base model: a hub id or an absolute path.
        model_path: the model's folder, if it is not at *base*.
        fingerprint: what the model must match; None if unknown.
        compute: what the child may use.
        offline: whether the child may fetch nothing: a base model or data set of the hub must be here already.
        folder: where the child's log and the digests of the model's files are stored; default: ``default_folder()``.
    """

    def __init__(
        self,
        base: BaseSection,
        model_path: Path | None = None,
        fingerprint: Fingerprint | None = None,
        *,
        compute: ComputeSettings | None = None,
        folder: Path | None = None,
        offline: bool = False,
    ) -> None:
        """Prepare the folder. Raises NotInstalled, BadEnvironment and OSError."""
        check_libraries_installed()
        self._folder = (folder or default_folder()).absolute()
        if folder is None:
            private_folder(self._folder)
            tighten(self._folder)
        else:
            self._folder.mkdir(parents=True, exist_ok=True)
        self._log_file = self._folder / _LOG_FILE
        self._log_file.unlink(missing_ok=True)
        self._log_file.touch(mode=0o600)
        self.compute = compute or ComputeSettings()
        path = model_path.absolute() if model_path is not None else None
        self.model = LocalModel(base=base, path=path, fingerprint=fingerprint, cache=self._folder)
        self._supervisor = Supervisor(environment=OFFLINE if offline else {})
        self._runner = asyncio.Runner()
        self._order: asyncio.Task[Any] | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None) -> None:
        try:
            self._runner.run(self._end())
        finally:
            self._runner.close()

    async def _end(self) -> None:
        """End the child. An order that a signal interrupted still reads from it: it is cancelled first, and ends it."""
        if self._order is not None and not self._order.done():
            self._order.cancel()
            await asyncio.gather(self._order, return_exceptions=True)
        await self._supervisor.stop()

    def abort(self) -> None:
        """End the child at once, from another thread than ``run``, which then raises TaskFailed or ChildDied."""
        self._supervisor.abort()

    def run(
        self,
        order: Order[AnswerT],
        on_progress: Callable[[ChildProgress], None] = lambda _: None,
        on_text: Callable[[str], None] = lambda _: None,
    ) -> AnswerT:
        """Have the child carry out the order, and return the order's own final message.

        Raises TaskFailed, whose message says what to do, and ChildDied.

        Args:
            order: with this child's ``compute``, and its ``model`` if it is about one.
            on_progress: called with the child's progress.
            on_text: called with each text chunk.
        """

        async def carried_out() -> AnswerT:
            self._order = asyncio.current_task()
            return await carry_out(self._supervisor, order, self._log_file, on_progress, on_text)

        return self._runner.run(carried_out())


async def carry_out(
    supervisor: Supervisor,
    order: Order[AnswerT],
    log_file: Path,
    on_progress: Callable[[ChildProgress], None],
    on_text: Callable[[str], None] | None = None,
) -> AnswerT:
    """Have a child carry out the order, and return the order's own final message. Raises TaskFailed and ChildDied.

    Args:
        supervisor: of the child.
        order: of any kind.
        log_file: where what the child prints is appended.
        on_progress: called with the child's progress.
        on_text: called with each text chunk.
    """
    try:
        message = await supervisor.run(order, log_file, on_progress, on_text)
    except ChildDied as died:
        if not died.out_of_memory:
            raise
        message = OutOfMemory(peak_bytes=0, longest_row_tokens=0)
    if isinstance(message, OutOfMemory):
        peak = f" at a peak of {message.peak_bytes / 2**30:.1f} GiB" if message.peak_bytes else ""
        reason = f"out of memory{peak}: use a machine with more memory, or a smaller base model"
        raise TaskFailed(FailureKind.OUT_OF_MEMORY, reason)
    if isinstance(message, Failed):
        failure = message.failure
        log = f" ({log_file})" if failure.kind == FailureKind.CRASH else ""
        raise TaskFailed(failure.kind, failure.message, f"{message.private or failure.message}{log}")
    return message


def default_folder() -> Path:
    """Return Fedloom's folder in the user's cache. Raises BadEnvironment if no variable and no account names one."""
    if cache := os.environ.get("XDG_CACHE_HOME"):
        return Path(cache) / "fedloom"
    try:
        return Path.home() / ".cache" / "fedloom"
    except RuntimeError as error:
        message = "this user has no home folder: set XDG_CACHE_HOME to a folder for caches"
        raise BadEnvironment(message) from error
