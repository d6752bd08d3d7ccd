"""Answering, scoring, data checks and merging for a person at this machine, in a training child of their own.

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
    ChildProgress,
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
from agent.data.source import DataSource
from agent.errors import TaskFailed
from agent.settings import ComputeSettings
from agent.supervisor import ChildDied, Supervisor, check_libraries_installed
from shared.campaign import BaseSection, Template
from shared.wire.jobs import Fingerprint
from shared.wire.leases import FailureKind

MICRO_BATCH = 8
_LOG_FILE = "child.log"

M = TypeVar("M", Answered, Checked, Merged, Scored)


class LocalChild:
    """A training child that keeps one base model loaded. Use it as a context manager: leaving it ends the child.

    Methods block. Ctrl-C in one ends the child; the next call starts another.

    Args:
        base: the base model: a hub id or an absolute path.
        model_path: the model's folder, if it is not at *base*.
        fingerprint: what the model must match; None if unknown.
        compute: what the child may use.
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
    ) -> None:
        """Prepare the folder. Raises NotInstalled and OSError."""
        check_libraries_installed()
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
        self, template: Template | OwnTemplate, adapter: LoraFile | None, on_progress: Callable[[ChildProgress], None]
    ) -> None:
        """Load the base model and try the adapter on it, so that errors show now. Raises what ``ask`` raises."""
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
        on_progress: Callable[[ChildProgress], None] = lambda _: None,
        on_text: Callable[[str], None] = lambda _: None,
    ) -> list[str]:
        """Answer each question independently and return the answers in their order.

        Raises TaskFailed, whose message says what to do, and ChildDied.

        Args:
            questions: the prompts; an empty list only loads the model.
            template: the chat template.
            adapter: the adapter on the base model; None asks the bare base model.
            max_new_tokens: most tokens of one answer.
            micro_batch: questions that go through the model at once.
            temperature: 0 decodes greedily; above 0 tokens are sampled.
            seed: seed of the sampling.
            on_progress: called with the child's progress.
            on_text: called with each chunk of the answer if there is a single question.
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
        return self._final_message(self._supervisor.run(order, self._log_file, on_progress, on_text)).texts

    def score(
        self,
        rows: Sequence[Completed],
        *,
        template: Template | OwnTemplate,
        adapter: LoraFile | None = None,
        micro_batch: int = MICRO_BATCH,
        on_progress: Callable[[ChildProgress], None] = lambda _: None,
    ) -> Scored:
        """Return the log-likelihood of each completion given its prompt, in the order of the rows.

        Raises TaskFailed, whose message says what to do, and ChildDied.

        Args:
            rows: prompts with their completions.
            template: the chat template.
            adapter: the adapter on the base model; None scores with the bare base model.
            micro_batch: rows that go through the model at once.
            on_progress: called with the child's progress.
        """
        order = ScoreRequest(
            **self._model, adapter=adapter, template=template, rows=list(rows), micro_batch=micro_batch
        )
        return self._final_message(self._supervisor.run(order, self._log_file, on_progress))

    def check(
        self,
        name: str,
        data: DataSource,
        *,
        kind: str,
        template: Template,
        max_length: int,
        remote_code: bool,
        on_progress: Callable[[ChildProgress], None] = lambda _: None,
    ) -> DataReport:
        """Report on the owner's data *name* as a campaign would read it.

        Raises TaskFailed, whose message says what to do, and ChildDied.

        Args:
            name: the data's name in agent.toml.
            data: where the data is, and its columns.
            kind: the kind of training.
            template: the campaign's chat template.
            max_length: the campaign's maximum length of a row, in tokens.
            remote_code: whether the owner allows code that comes with a base model to run.
            on_progress: called with the child's progress.
        """
        order = CheckRequest(
            **self._model,
            name=name,
            data=data,
            kind=kind,
            template=template,
            max_length=max_length,
            remote_code=remote_code,
        )
        return self._final_message(self._supervisor.run(order, self._log_file, on_progress)).report

    def merge(
        self,
        adapter: LoraFile,
        dtype: Dtype,
        folder: Path,
        on_progress: Callable[[ChildProgress], None] = lambda _: None,
    ) -> Merged:
        """Merge base model and adapter, and write the model into the existing empty *folder*.

        Raises TaskFailed, whose message says what to do, and ChildDied. The folder's content is then unusable.
        """
        order = MergeRequest(**self._model, adapter=adapter, dtype=dtype, folder=folder.absolute())
        return self._final_message(self._supervisor.run(order, self._log_file, on_progress))

    def _final_message(self, order: Coroutine[Any, Any, M | Failed | OutOfMemory]) -> M:
        try:
            message = self._runner.run(order)
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
            log = f" ({self._log_file})" if failure.kind == FailureKind.CRASH else ""
            raise TaskFailed(failure.kind, f"{failure.message}{log}")
        return message


def default_folder() -> Path:
    """Return Fedloom's folder in the user's cache."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "fedloom"
