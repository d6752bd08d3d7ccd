"""What tables say of a task and of its progress, a cell each. All of it is empty where nothing is known."""

from fedloom.cli import output
from shared.states import TaskState
from shared.wire.campaigns import TaskView
from shared.wire.tasks.leases import BYTE_PHASES, Progress

_BENCHMARKS_SHOWN = 3


def doing_now(task: TaskView, starting: str = "starting") -> str:
    """What becomes of a task now. starting: for one whose agent has told no progress yet."""
    if task.state is TaskState.PENDING:
        return "waits for its agent"
    if task.state is TaskState.HELD:
        return "held by its owner"
    return task.progress.phase if task.progress else starting


def task_in_words(task: TaskView) -> str:
    """The kind of a task; of benchmarks, which ones: "benchmark fpb, gsm8k"."""
    return f"{task.kind} {output.some_of(task.benchmarks, _BENCHMARKS_SHOWN)}" if task.benchmarks else task.kind


def done_of_total(progress: Progress | None) -> str:
    """How far a task is, in steps, rows or bytes."""
    if progress is None or not progress.total:
        return ""
    if progress.phase in BYTE_PHASES:
        return f"{output.size(progress.done)}/{output.size(progress.total)}"
    return f"{output.bounded(progress.done)}/{output.bounded(progress.total)}"


def loss(progress: Progress | None) -> str:
    """The loss of the latest step."""
    return output.loss(progress.loss) if progress else ""


def speed(progress: Progress | None) -> str:
    """Tokens a second."""
    return f"{progress.tokens_per_s:.0f}" if progress and progress.tokens_per_s is not None else ""


def time_left(progress: Progress | None) -> str:
    """How long the rest of the phase takes."""
    return output.duration(progress.seconds_left) if progress and progress.seconds_left is not None else ""


def memory(progress: Progress | None) -> str:
    """The most memory that the training process has held."""
    return output.size(progress.peak_memory_bytes) if progress and progress.peak_memory_bytes is not None else ""


def gpu(progress: Progress | None) -> str:
    """How busy the GPU is."""
    return f"{progress.gpu_utilization:.0%}" if progress and progress.gpu_utilization is not None else ""
