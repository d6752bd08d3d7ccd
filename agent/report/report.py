"""Makes a report: the base model, the model trained alone, and the campaign's adapters, on the same rows."""

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from pathlib import Path

from agent.report.adapters import find_adapters, missing_of
from agent.report.alone import find_alone, train_alone
from agent.report.child import OnProgress, report_child
from agent.report.measuring import Asking, MeasuredModel, Model, ModelKind, measured
from agent.report.start import start_adapter
from agent.report.subject import Subject

OnStep = Callable[[str], OnProgress]
"""Called with each step in words; returns what its progress is reported to."""


@dataclass(frozen=True)
class Wanted:
    """What a report is to have.

    Args:
        asking: how rows are asked.
        numbers: of adapters; empty for all that are here.
        folders: of adapters that the owner pulled.
        trains_alone: whether the model of the owner alone is trained, if it is not there.
    """

    asking: Asking
    numbers: Collection[int] = ()
    folders: Sequence[Path] = ()
    trains_alone: bool = False


@dataclass(frozen=True)
class OwnReport:
    """What a campaign gains its owner.

    Args:
        subject: the campaign and the rows.
        models: the base model, the model alone if there is one, and adapters by number, all asked the same rows.
        alone_steps: optimizer steps of the model alone; 0 without it.
        no_alone: why there is no model alone; empty if there is.
        missing: numbers of the campaign's adapters that are not on this machine, where all were wanted.
    """

    subject: Subject
    models: Sequence[MeasuredModel]
    alone_steps: int
    no_alone: str
    missing: Sequence[int] = ()

    @property
    def base(self) -> MeasuredModel:
        return self.models[0]

    @property
    def alone(self) -> MeasuredModel | None:
        """The model that this owner trained alone."""
        return next((each for each in self.models if each.model.kind is ModelKind.ALONE), None)

    @property
    def adapters(self) -> list[MeasuredModel]:
        return [each for each in self.models if each.model.kind is ModelKind.ADAPTER]


def make_report(subject: Subject, wanted: Wanted, on_step: OnStep) -> OwnReport:
    """Measure all models. Nothing goes over the network.

    Raises NoReport, TaskFailed, ChildDied, NotInstalled, RecordUnusable and OSError.
    """
    adapters = find_adapters(subject, wanted.folders, wanted.numbers)
    alone, no_alone = find_alone(subject)
    with report_child(subject) as child:
        kept = [Model.adapter(each) for each in adapters]
        for model in kept:
            assert model.path is not None
            child.kept(model.path, model.sha256 or "")
        trains = wanted.trains_alone and alone is None
        start = None
        if subject.needs_start or trains:
            start = start_adapter(child, wanted.folders, on_step("the adapter that the campaign starts from"))
        reference = start if subject.needs_start else None
        # the base first: it tells whether the rows are those of the preparation, before anything is trained on them
        models = [measured(child, Model(ModelKind.BASE), reference, wanted.asking, on_step("base"))]
        if trains:
            assert start is not None
            alone = train_alone(child, start, reference, lambda n, of: on_step(f"training alone, round {n} of {of}"))
        if alone is not None:
            models.append(measured(child, Model.alone(alone), reference, wanted.asking, on_step("alone")))
        models += [measured(child, model, reference, wanted.asking, on_step(model.name)) for model in kept]
    steps = alone.n_steps if alone is not None else 0
    missing = missing_of(subject, adapters) if not wanted.numbers else []
    return OwnReport(subject, models, steps, "" if alone is not None else no_alone, missing)
