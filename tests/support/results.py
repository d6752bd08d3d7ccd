"""Results as their file has them."""

from pathlib import Path

from pydantic import TypeAdapter

from fedloom.evaluation.results import RESULTS_FILE, Results


def read_results(folder: Path) -> Results:
    return TypeAdapter(Results).validate_json((folder / RESULTS_FILE).read_bytes())
