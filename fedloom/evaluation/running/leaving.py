"""What leaves this machine for a judge, and what it may cost: told before a model is loaded."""

from collections.abc import Sequence

from fedloom.errors import EvaluationError
from fedloom.evaluation.judging.budget import Cost
from fedloom.evaluation.judging.judge import Judge
from fedloom.evaluation.running.ready import ReadyTask
from fedloom.evaluation.tasks.chat.judged_task import JudgedTask


def what_leaves(judge: Judge | None, ready: Sequence[ReadyTask], n_models: int) -> str:
    """What is sent to whom, as a sentence; empty if nothing is. Raises EvaluationError if it may cost too much.

    Args:
        judge: None for none.
        ready: the tasks of the run.
        n_models: that are asked.
    """
    tasks = [(each.task, each.items) for each in ready if each.can_run and isinstance(each.task, JudgedTask)]
    if judge is None or not tasks:
        return ""
    cost = sum((task.cost(items, n_models) for task, items in tasks), Cost())
    said = f"at most {cost.in_words()}, {cost.tokens:,} together"
    most = judge.budget.most
    if cost.tokens > most:
        raise EvaluationError(
            f"the judge {judge.endpoint} may have to read and write more than --judge-max-tokens {most:,}: {said}; "
            "give more if you want to pay for it, or a smaller --limit. Nothing was sent"
        )
    names = ", ".join(task.name for task, _ in tasks)
    where = "go to" if judge.endpoint.is_on_this_machine else "leave this machine for"
    warning = ", over plain http://, which others on the way can read" if judge.endpoint.is_readable_on_the_way else ""
    return (
        f"{names}: questions, reference answers and the answers of each model {where} the judge {judge.endpoint}"
        f"{warning}; {said}, of --judge-max-tokens {most:,}"
    )
