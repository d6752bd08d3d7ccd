"""The training child of a report: it may fetch nothing, and its files are for the owner alone."""

import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from filelock import FileLock, Timeout

from agent.errors import NoReport, TaskFailed
from agent.local import LocalChild
from agent.orders.order import AnswerT, Order
from agent.orders.protocol import ChildProgress
from agent.report.subject import Subject
from shared.system.private_files import private_folder
from shared.wire.tasks.leases import FailureKind

OnProgress = Callable[[ChildProgress], None]

FOLDER = "report"


@dataclass(frozen=True)
class ReportChild:
    """A child that works for one report. work: a folder that is deleted with it."""

    subject: Subject
    child: LocalChild
    work: Path

    def run(self, order_of: Callable[[int], Order[AnswerT]], on_progress: OnProgress) -> AnswerT:
        """Have the child carry out an order, with a smaller micro-batch each time memory runs out.

        order_of: makes the order for a micro-batch. Raises TaskFailed and ChildDied.
        """
        spec, workspace = self.subject.known.spec, self.subject.workspace
        model_key = self.subject.known.base.loaded_name
        most = self.subject.settings.compute.micro_batch
        micro_batch = workspace.micro_batch(model_key, spec.training.max_length, most)
        while True:
            try:
                return self.child.run(order_of(micro_batch), on_progress)
            except TaskFailed as failed:
                if failed.failure.kind is not FailureKind.OUT_OF_MEMORY or micro_batch == 1:
                    raise
            micro_batch //= 2

    def kept(self, path: Path, name: str) -> Path:
        """A file under a name of this report's own: the running agent may delete adapters from its cache."""
        kept = self.work / name
        if not kept.exists():
            try:
                os.link(path, kept)
            except OSError:
                shutil.copyfile(path, kept)
        return kept


@contextmanager
def report_child(subject: Subject) -> Iterator[ReportChild]:
    """A child for one report at a time. Raises NoReport if another report is being made, NotInstalled and OSError."""
    folder = subject.workspace.home / FOLDER
    private_folder(folder)
    try:
        lock = FileLock(folder / "report.lock", mode=0o600).acquire(timeout=0)
    except Timeout as error:
        raise NoReport("another report is being made in this home folder; wait until it is done") from error
    work = folder / "work"
    with lock:
        shutil.rmtree(work, ignore_errors=True)  # of one that was killed
        private_folder(work)
        base, compute = subject.known.spec.base, subject.settings.compute
        try:
            with LocalChild(base, subject.model_path, compute=compute, folder=folder, offline=True) as child:
                yield ReportChild(subject, child, work)
        finally:
            shutil.rmtree(work, ignore_errors=True)
