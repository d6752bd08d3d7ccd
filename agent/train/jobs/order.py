"""Does a coordinator's job in its folder, and leaves the result there."""

import shutil
from pathlib import Path

from agent.orders.job import Done, LocalJob
from agent.orders.job_files import CHECKPOINT_FILE, RESULT_FILE
from agent.train.jobs.run import run_job
from agent.train.order_context import OrderContext
from agent.train.stack.training import TRAINER_FOLDER_PREFIX
from shared import crash_points
from shared.system.durable import atomic_text


def do_job(order: LocalJob, context: OrderContext) -> Done:
    """Do the job and write its files into ``order.folder``, the result last.

    Raises TaskFailed, and any unexpected error.
    """
    order.folder.mkdir(parents=True, exist_ok=True)
    _delete_leftovers(order.folder)
    done = run_job(context.warm, order, context.report)
    atomic_text(order.folder / RESULT_FILE, done.model_dump_json())
    crash_points.reach("child: result written")
    (order.folder / CHECKPOINT_FILE).unlink(missing_ok=True)
    return done


def _delete_leftovers(folder: Path) -> None:
    """Delete what a killed process left unfinished in a task's folder."""
    for leftover in folder.glob(f"{TRAINER_FOLDER_PREFIX}*"):
        shutil.rmtree(leftover, ignore_errors=True)
    for leftover in folder.glob(".*.tmp"):
        leftover.unlink(missing_ok=True)
