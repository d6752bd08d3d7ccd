"""What models are scored on, and what is chosen and ranked by: read and checked before anything is trained."""

from collections.abc import Mapping
from dataclasses import dataclass

from agent.data.checks.notices import Occurrences
from agent.data.source import DataSource
from fedloom.comparison.criterion import METRICS_OF, Criterion, criterion_on_rows, is_on_rows
from fedloom.comparison.parts import CHOOSING, EVALUATION, IN_WORDS, TEST, VALIDATION
from fedloom.comparison.rows import Rows, training_rows
from fedloom.comparison.running.trial_scores import TrialScores
from fedloom.comparison.spec import ComparisonSpec
from fedloom.comparison.tasks.evaluation import TaskEvaluation
from fedloom.comparison.tasks.plan import asked_tasks, criterion_in, plan_of
from fedloom.errors import ComparisonError


@dataclass(frozen=True)
class Measuring:
    """How the models of a comparison are measured.

    Args:
        rows: by split.
        evaluations: tasks, by what they are for.
        chosen_by: what hyperparameters are chosen by.
        rank: what the table is ranked by; None for the first metric of a task that has a value.
        doubts: what makes the scores doubtful.
    """

    rows: Mapping[str, Rows]
    evaluations: Mapping[str, TaskEvaluation]
    chosen_by: Criterion
    rank: Criterion | None
    doubts: list[str]

    @property
    def for_choosing(self) -> str:
        """What hyperparameters are chosen on."""
        return CHOOSING if self.chosen_by.tasks else VALIDATION

    @property
    def for_table(self) -> list[str]:
        """What the table has scores on."""
        return [part for part in (TEST, EVALUATION) if part in self.rows or part in self.evaluations]

    def check_choosing(self, base: TrialScores) -> None:
        """Raise ComparisonError if there is nothing to choose by. base: the scores of the base model."""
        _check_value(base, self.chosen_by, self.for_choosing, "choose")

    def ranked_by(self, base: TrialScores) -> Criterion:
        """What the rows of the table are ranked by. Raises ComparisonError if it has no value.

        base: the scores of the base model.
        """
        if self.rank is not None:
            _check_value(base, self.rank, EVALUATION if self.rank.tasks else TEST, "rank")
            return self.rank
        scores = base.tasks[EVALUATION].scores
        for score in scores:
            if score.value is not None and score.task:
                return Criterion(score.key, score.lower_is_better, f"the items of {score.task}", (score.task,))
        reasons = dict.fromkeys(f"{score.task}: {score.not_run}" for score in scores if score.task)
        raise ComparisonError(f"evaluation: no task can run: {'; '.join(reasons)}")


def measuring(spec: ComparisonSpec, source: DataSource, *, run_untrusted_code: bool) -> Measuring:
    """Read all rows and all data of tasks.

    Raises ComparisonError if they cannot tell methods apart, cannot be learnt or cannot run, FieldError for a metric
    that there is not, EvaluationError, HarnessMissing, CampaignFileError of a suite's file, TaskFailed and OSError.

    Args:
        spec: the comparison file, with absolute paths.
        source: the training data.
        run_untrusted_code: tasks may run code that a model wrote without a sandbox.
    """
    files = {VALIDATION: spec.validation, TEST: spec.test}
    rows = {split: Rows.read(path, source, spec.score) for split, path in files.items() if path is not None}
    doubts = _doubts(rows, source)
    plan = None
    if spec.evaluation is not None:
        plan = plan_of(spec.evaluation, source, run_untrusted_code=run_untrusted_code)
    measure = METRICS_OF[spec.score.measure][0]
    choose, rank = spec.choose or measure, spec.rank or (measure if TEST in rows else None)
    chosen_by = (
        criterion_on_rows(choose, IN_WORDS[VALIDATION]) if is_on_rows(choose) else criterion_in(plan, "choose", choose)
    )
    ranked_by = None
    if rank is not None:
        ranked_by = criterion_on_rows(rank) if is_on_rows(rank) else criterion_in(plan, "rank", rank)
    evaluations = {}
    if plan is not None:
        asked = asked_tasks(plan, chosen_by, ranked_by)
        evaluations[EVALUATION] = asked.table
        if asked.choosing is not None:
            evaluations[CHOOSING] = asked.choosing
        doubts += asked.notes + asked.table.overlaps
        for part, models in ((CHOOSING, "that is tried"), (EVALUATION, "of the table")):
            if part in evaluations and (leaves := evaluations[part].leaves):
                doubts.append(f"for each model {models}: {leaves}")
    return Measuring(rows, evaluations, chosen_by, ranked_by, doubts)


def _doubts(rows: Mapping[str, Rows], source: DataSource) -> list[str]:
    """What makes scores on these rows doubtful. Raises ComparisonError if no method can learn what is scored."""
    notices = Occurrences()
    training = training_rows(source, notices)
    notes = list(map(str, notices.problems))
    notes += [note for own in rows.values() for note in own.notes(training)]
    validation, test = rows.get(VALIDATION), rows.get(TEST)
    if validation is not None and test is not None and (repeated := len(test.shared_with(validation.rows))):
        name = validation.path.name
        notes.append(f"{test.path.name}: {repeated} of {len(test.rows)} rows are in {name} too")
    return notes


def _check_value(base: TrialScores, criterion: Criterion, part: str, field: str) -> None:
    """Raise ComparisonError if the base model has no value of a criterion: no other model would have one."""
    if criterion.metric in base.values(part):
        return
    found = base.tasks[part].scores if part in base.tasks else []
    reason = next((score.not_run for score in found if score.key == criterion.metric), "")
    raise ComparisonError(f"{field}: the base model has no {criterion.metric}: {reason or 'there is no value'}")
