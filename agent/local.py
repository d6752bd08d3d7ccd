"""Answers, likelihoods, looks at data and merged models for a person at this machine, by a training child of their own.

with LocalChild(BaseSection(model="/models/tiny")) as child:
    adapter = LoraFile(weights=Path("adapter_model.safetensors"), lora=LoraSection(rank=8, alpha=16))
    texts = child.ask([Question(prompt="Why is the sky blue?")], template="chat", adapter=adapter)
"""

import asyncio
import os
from collections.abc import Callable, Coroutine, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Self, TypeVar

from agent.child import (
    Answered,
    AnswerRequest,
    Checked,
    CheckRequest,
    Completed,
    Dtype,
    Failed,
    LoraFile,
    Merged,
    MergeRequest,
    OutOfMemory,
    Question,
    Scored,
    ScoreRequest,
)
from agent.data.own_template import OwnTemplate
from agent.data.report import DataReport
from agent.errors import TaskFailed
from agent.settings import ComputeSettings, DataSource
from agent.supervisor import ChildDied, Supervisor, check_installed
from shared.campaign import BaseSection, Template, TrainingKind
from shared.wire.jobs import Fingerprint
from shared.wire.leases import FailureKind, Progress

MICRO_BATCH = 8
_LOG_FILE = "child.log"

L = TypeVar("L", Answered, Checked, Merged, Scored)


class LocalChild:
    """A training child with one base model, kept warm. Use it as a context manager: leaving it ends the child.

    base: hub id or absolute path. model_path: the model's folder, where it lies elsewhere. fingerprint: what the model
    must be, where that is known. compute: what the child may use. folder: where it keeps its log, and digests of the
    model's files. Methods block; Ctrl-C in one ends the child, and the next starts another.
    """

    def __init__(
        self,
        base: BaseSection,
        model_path: Path | None = None,
        fingerprint: Fingerprint | None = None,
        *,
        compute: ComputeSettings | None = None,
        folder: Path | None = None,
    ) -> None:
        """Raises NotInstalled and OSError."""
        check_installed()
        self._folder = (folder or default_folder()).absolute()
        self._folder.mkdir(parents=True, exist_ok=True)
        self._log_file = self._folder / _LOG_FILE
        self._log_file.write_bytes(b"")
        compute = compute or ComputeSettings()
        self._model: dict[str, Any] = {
            "base": base,
            "model_path": model_path.absolute() if model_path is not None else None,
            "fingerprint": fingerprint,
            "cache": self._folder,
            "compute": compute,
        }
        self._supervisor = Supervisor(compute)
        self._runner = asyncio.Runner()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None) -> None:
        try:
            self._runner.run(self._supervisor.stop())
        finally:
            self._runner.close()

    def load(
        self, template: Template | OwnTemplate, adapter: LoraFile | None, on_progress: Callable[[Progress], None]
    ) -> None:
        """Load the base model and try the adapter on it, so that what is wrong shows now. Raises as ``ask`` does."""
        self.ask([], template=template, adapter=adapter, on_progress=on_progress)

    def ask(
        self,
        questions: Sequence[Question],
        *,
        template: Template | OwnTemplate,
        adapter: LoraFile | None = None,
        max_new_tokens: int = 200,
        micro_batch: int = MICRO_BATCH,
        temperature: float = 0.0,
        seed: int = 0,
        on_progress: Callable[[Progress], None] = lambda _: None,
        on_text: Callable[[str], None] = lambda _: None,
    ) -> list[str]:
        """The answers in the order of the questions, each asked by itself; without *adapter* those of the base alone.

        temperature: 0 takes the likeliest token each time; above it tokens are drawn, from *seed*. on_piece: called
        with the pieces of the answer to an only question. Raises TaskFailed with what to do, and ChildDied.
        """
        order = AnswerRequest(
            **self._model,
            adapter=adapter,
            template=template,
            questions=list(questions),
            max_new_tokens=max_new_tokens,
            micro_batch=micro_batch,
            temperature=temperature,
            seed=seed,
        )
        return self._last_word(self._supervisor.run(order, self._log_file, on_progress, on_text)).texts

    def score(
        self,
        rows: Sequence[Completed],
        *,
        template: Template | OwnTemplate,
        adapter: LoraFile | None = None,
        micro_batch: int = MICRO_BATCH,
        on_progress: Callable[[Progress], None] = lambda _: None,
    ) -> Scored:
        """How likely each completion is after its prompt, in the order of the rows, to the adapter or the base alone.

        Raises TaskFailed with what to do, and ChildDied.
        """
        order = ScoreRequest(
            **self._model, adapter=adapter, template=template, rows=list(rows), micro_batch=micro_batch
        )
        return self._last_word(self._supervisor.run(order, self._log_file, on_progress))

    def check(
        self,
        name: str,
        data: DataSource,
        *,
        kind: TrainingKind,
        template: Template,
        max_length: int,
        remote_code: bool,
        on_progress: Callable[[Progress], None] = lambda _: None,
    ) -> DataReport:
        """What is in the owner's data *name* for a kind of training. remote_code: whether the owner lets code run that
        comes with a model. Raises TaskFailed with what to do, and ChildDied."""
        order = CheckRequest(
            **self._model,
            name=name,
            data=data,
            kind=kind,
            template=template,
            max_length=max_length,
            remote_code=remote_code,
        )
        return self._last_word(self._supervisor.run(order, self._log_file, on_progress)).report

    def merge(
        self, adapter: LoraFile, dtype: Dtype, folder: Path, on_progress: Callable[[Progress], None] = lambda _: None
    ) -> Merged:
        """Write base model and adapter as one model into *folder*, which is there and empty.

        Raises TaskFailed with what to do, and ChildDied; what is in the folder is then of no use.
        """
        order = MergeRequest(**self._model, adapter=adapter, dtype=dtype, folder=folder.absolute())
        return self._last_word(self._supervisor.run(order, self._log_file, on_progress))

    def _last_word(self, running: Coroutine[Any, Any, L | Failed | OutOfMemory]) -> L:
        try:
            word = self._runner.run(running)
        except ChildDied as died:
            if not died.out_of_memory:
                raise
            word = OutOfMemory(peak_bytes=0, longest_row_tokens=0)
        if isinstance(word, OutOfMemory):
            peak = f" at a peak of {word.peak_bytes / 2**30:.1f} GiB" if word.peak_bytes else ""
            message = f"out of memory{peak}: use a machine with more of it, or a smaller base model"
            raise TaskFailed(FailureKind.OUT_OF_MEMORY, message)
        if isinstance(word, Failed):
            failure = word.failure
            log = f" ({self._log_file})" if failure.kind == FailureKind.CRASH else ""
            raise TaskFailed(failure.kind, f"{failure.message}{log}")
        return word


def default_folder() -> Path:
    """The user's cache folder of Fedloom."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "fedloom"
