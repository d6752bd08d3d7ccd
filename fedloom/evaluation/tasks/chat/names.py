"""The tasks by name."""

from fedloom.evaluation.tasks.chat.benches import MT_BENCH, VICUNA_BENCH
from fedloom.evaluation.tasks.chat.compared import ComparedTask
from fedloom.evaluation.tasks.chat.judged_task import JudgedTask
from fedloom.evaluation.tasks.chat.rated import RatedTask

_BENCHES = {bench.name: bench for bench in (MT_BENCH, VICUNA_BENCH)}


def judged_task(name: str) -> JudgedTask:
    """The task of a name: of a set, or of its pairs."""
    bench = _BENCHES[name.removesuffix("_pairs")]
    return ComparedTask(bench) if name.endswith("_pairs") else RatedTask(bench)
