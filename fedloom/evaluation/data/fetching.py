"""Downloads evaluation data from the hub, when a person asks for it."""

import tempfile
from collections.abc import Iterable, Iterator
from importlib import import_module
from pathlib import Path

from fedloom.evaluation.tasks.base import BadData, DataFile, Task
from fedloom.evaluation.tasks.files.finding import find, in_layout
from fedloom.evaluation.tasks.files.hub import BRANCH, HubRows, hub_rows
from shared.system.durable import atomic_write


def fetch_missing(tasks: Iterable[Task], data: Path) -> Iterator[str]:
    """Download the files that are missing and that the hub has. Yields a line for each; what fails stops no other.

    Raises OSError if a file cannot be written.
    """
    files = {file.path: file for task in tasks for file in task.files}
    there = {path for path, file in files.items() if _is_there(data, file)}
    for path, file in files.items():
        if path in there or file.instead_of in there:
            continue
        rows = hub_rows(file)
        if rows is None:
            yield f"{path}: the hub does not have it: {file.where}"
            continue
        problem = _fetch(rows, data / in_layout(file, ".parquet"))
        if problem:
            yield f"{path}: cannot be downloaded: {problem}; {file.where}"
        else:
            yield f"{path}: downloaded from {rows.repository}"


def _is_there(data: Path, file: DataFile) -> bool:
    try:
        return find(data, file) is not None
    except BadData:  # what is there is no file: the task says so
        return True


def _fetch(rows: HubRows, target: Path) -> str:
    """Write the rows to a file. Returns what went wrong at the hub; empty if nothing did."""
    import httpx
    from huggingface_hub import hf_hub_download
    from huggingface_hub.constants import HF_HUB_OFFLINE
    from huggingface_hub.errors import GatedRepoError, HfHubHTTPError, LocalEntryNotFoundError

    pyarrow, parquet = import_module("pyarrow"), import_module("pyarrow.parquet")
    target.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="fedloom-eval-") as folder:  # and no copy in the hub's cache
        try:
            tables = [
                parquet.read_table(
                    hf_hub_download(rows.repository, name, repo_type="dataset", revision=BRANCH, local_dir=folder)
                )
                for name in rows.files
            ]
        except GatedRepoError:
            return f"{rows.repository} asks for an account that accepted its terms (HF_TOKEN)"
        except LocalEntryNotFoundError:
            return "HF_HUB_OFFLINE is set" if HF_HUB_OFFLINE else "the hub cannot be reached"
        except (HfHubHTTPError, httpx.HTTPError, pyarrow.ArrowException) as error:
            return f"{rows.repository}: {type(error).__name__}"
    with atomic_write(target) as file:
        parquet.write_table(pyarrow.concat_tables(tables, promote_options="permissive"), file)
    return ""
