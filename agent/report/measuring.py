"""The models of a report, each measured on the owner's held-out rows."""

from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

from agent.errors import NoReport
from agent.orders.measure import ANSWERS_AT_ONCE, MeasuredRow, MeasuredRows, MeasureRequest
from agent.report.adapters import FoundAdapter
from agent.report.alone import AloneModel
from agent.report.child import OnProgress, ReportChild
from agent.report.subject import BARE, ref_of
from shared.metrics import HELD_OUT_LOSS
from shared.system.private_files import private_folder
from shared.wire.base import BlobRef


class ModelKind(StrEnum):
    """What a model of a report is."""

    BASE = "base"
    ALONE = "alone"
    ADAPTER = "adapter"


@dataclass(frozen=True)
class Model:
    """A model to measure. number: an adapter's, otherwise 0. sha256, path: of its adapter; None for the base model."""

    kind: ModelKind
    number: int = 0
    sha256: str | None = None
    path: Path | None = None

    @property
    def name(self) -> str:
        """Its name for people."""
        return f"adapter {self.number}" if self.kind is ModelKind.ADAPTER else str(self.kind)

    @classmethod
    def alone(cls, found: AloneModel) -> "Model":
        return cls(ModelKind.ALONE, found.n_rounds, found.sha256, found.path)

    @classmethod
    def adapter(cls, found: FoundAdapter) -> "Model":
        return cls(ModelKind.ADAPTER, found.number, found.sha256, found.path)


@dataclass(frozen=True)
class MeasuredModel:
    """A model, and what it makes of the rows."""

    model: Model
    found: MeasuredRows

    @property
    def loss(self) -> float:
        """Its loss on all held-out rows."""
        return self.found.metrics[HELD_OUT_LOSS]

    @property
    def rows(self) -> list[MeasuredRow]:
        return self.found.rows


@dataclass(frozen=True)
class Asking:
    """How rows are asked. n_rows: most of them. max_new_tokens: most tokens of an answer."""

    n_rows: int
    max_new_tokens: int


def measured(
    child: ReportChild,
    model: Model,
    reference: FoundAdapter | None,
    asking: Asking,
    on_progress: OnProgress,
) -> MeasuredModel:
    """Measure a model. Raises NoReport if the rows are not those of the preparation, TaskFailed, ChildDied and OSError.

    Args:
        child: that measures.
        model: the model.
        reference: the adapter of the kind's reference model; None for none.
        asking: how rows are asked.
        on_progress: called with the child's progress.
    """
    subject = child.subject
    out = child.work / "measured.json"
    folder = child.work / "measuring"
    private_folder(folder)
    path = child.kept(model.path, model.sha256 or "") if model.path is not None else None
    adapter = ref_of(path, model.sha256) if path is not None and model.sha256 is not None else BARE
    job = subject.evaluation(model.number, adapter, _ref(reference))

    def order(micro_batch: int) -> MeasureRequest:
        return MeasureRequest(
            compute=subject.settings.compute,
            job=job,
            folder=folder,
            cache=subject.workspace.cache,
            model_path=subject.model_path,
            data=subject.source,
            adapter=path,
            reference=reference.path if reference is not None else None,
            rows=subject.prepared.rows,
            n_asked=asking.n_rows,
            max_new_tokens=asking.max_new_tokens,
            micro_batch=micro_batch,
            answers_at_once=max(1, ANSWERS_AT_ONCE * micro_batch // subject.settings.compute.micro_batch),
            remote_code=subject.settings.policy.remote_code,
            out=out,
        )

    out.unlink(missing_ok=True)
    child.run(order, on_progress)
    found = MeasuredRows.model_validate_json(out.read_bytes())
    out.unlink()
    prepared = subject.prepared
    if (found.n_held_out, found.n_distinct) != (prepared.n_held_out, prepared.n_distinct_held_out):
        raise NoReport(
            f"{found.n_held_out} rows are held out, and {prepared.n_held_out} were when the campaign was prepared, so "
            "nothing can be compared: put back the file that agent.toml named then"
        )
    return MeasuredModel(model, found)


def _ref(adapter: FoundAdapter | None) -> BlobRef | None:
    return ref_of(adapter.path, adapter.sha256) if adapter is not None else None
