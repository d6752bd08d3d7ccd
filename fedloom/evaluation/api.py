"""Evaluation from Python.

>>> import fedloom
>>> results = fedloom.evaluate(["my-adapter"], suite="medical", limit=100, data="evaluation-data")  # doctest: +SKIP
>>> results.tasks[0].models[1].numbers[0].value  # doctest: +SKIP
0.41
"""

import logging
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from fedloom.evaluation.results import Results
    from fedloom.evaluation.running.plan import Progress

Folder = str | Path
log = logging.getLogger(__name__)


def evaluate(
    adapters: Sequence[Folder] = (),
    *,
    suite: str | None = None,
    tasks: Sequence[str] | None = None,
    limit: int | None = None,
    data: Folder = "evaluation-data",
    out: Folder = "evaluation",
    base: str | None = None,
    seed: int = 0,
    threads: int | None = None,
    run_untrusted_code: bool = False,
    training: Sequence[Folder] = (),
    judge_url: str | None = None,
    judge_model: str | None = None,
    judge_max_tokens: int | None = None,
    on_progress: "Callable[[Progress], None] | None" = None,
) -> "Results":
    """Measure a base model and adapters on public benchmarks. The same call goes on where a stopped one was.

    Raises EvaluationError, BadAdapterFolder, CampaignFileError for a suite's file, TaskFailed and ChildDied if the base
    model cannot be used, NotInstalled and OSError.

    Args:
        adapters: folders of adapters on one base model.
        suite: name or file of a suite; ``paper`` if neither a suite nor tasks are given.
        tasks: names of tasks, in place of a suite.
        limit: most items a task, spread over its subjects; None for all.
        data: folder of evaluation data. What is missing there is "not run".
        out: folder of the results.
        base: the base model's folder or hub id; by default what the adapters name.
        seed: of the draw of items, of sampled replies, and of intervals.
        threads: CPU threads; None for every core.
        run_untrusted_code: run code that a model wrote without isolation.
        training: files or folders of rows that the adapters were trained on: results count the items that occur in
            them, and hold no row.
        judge_url: an OpenAI-compatible server, such as ``https://api.openai.com/v1``, whose model rates the answers of
            tasks that need a judge: questions and answers are sent there. The key is that of ``FEDLOOM_JUDGE_KEY``.
        judge_model: its name there.
        judge_max_tokens: what it may cost in all, in and out; by default 1,000,000.
        on_progress: called as often as something changes.
    """
    from fedloom.errors import EvaluationError
    from fedloom.evaluation.evaluate import evaluate_adapters, planned
    from fedloom.evaluation.judging.judge import judge_of

    if suite is not None and tasks is not None:
        message = "give a suite or tasks, and not both"
        raise EvaluationError(message)
    if isinstance(adapters, str | Path):
        message = f"adapters are a list of folders, and not the single {str(adapters)!r}"
        raise EvaluationError(message)
    if threads is not None and threads < 1:
        message = f"threads are 1 or more, and not {threads}"
        raise EvaluationError(message)
    if not adapters and base is None:
        message = "name an adapter's folder, or a base model"
        raise EvaluationError(message)
    plan = planned(
        None if tasks is not None else suite or "paper",
        tasks,
        data=Path(data),
        limit=limit,
        seed=seed,
        untrusted=run_untrusted_code,
        training=[Path(each) for each in training],
        judge=judge_of(judge_url, judge_model, judge_max_tokens),
    )
    tell = on_progress or _warn_of_what_leaves
    folders = [Path(each) for each in adapters]
    return evaluate_adapters(folders, plan, Path(out), base=base, threads=threads, on_progress=tell)


def _warn_of_what_leaves(progress: "Progress") -> None:
    if progress.leaves:
        log.warning("%s", progress.leaves)
