"""The files that the child leaves in a task's folder."""

from shared.states import BlobKind
from shared.wire.tasks.results import InitResult, Result, TrainResult

DELTA_FILE = "delta.safetensors"
EXTRAS_FILE = "extras.safetensors"
CLIENT_STATE_FILE = "client_state.safetensors"
"""The client state that a task leaves for the next one, if the algorithm has any. It never leaves this machine."""
RESIDUAL_FILE = "residual.safetensors"
"""What rounding took from the update that a task leaves, for the next one to send (``shared.adapters.feedback``)."""
CHECKPOINT_FILE = "checkpoint.pt"
"""Where training resumes after a crash. Deleted once there is a result. It never leaves this machine."""
ADAPTER_FILE = "adapter.safetensors"
RESULT_FILE = "result.json"
"""Written last and atomically: if it exists, the task's other files are complete."""


def files_of(result: Result) -> list[tuple[BlobKind, str, str]]:
    """Return kind, name in the task's folder, and SHA-256 of each file that belongs to a result."""
    if isinstance(result, InitResult):
        return [(BlobKind.ADAPTER, ADAPTER_FILE, result.adapter)]
    if isinstance(result, TrainResult):
        extras = [(BlobKind.EXTRAS, EXTRAS_FILE, result.extras)] if result.extras is not None else []
        return [(BlobKind.DELTA, DELTA_FILE, result.delta), *extras]
    return []
