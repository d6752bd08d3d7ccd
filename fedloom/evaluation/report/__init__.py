"""Results for people: table, CSV and one page."""

from pathlib import Path

from fedloom.evaluation.report.csv_file import write_csv_file
from fedloom.evaluation.report.page import write_page
from fedloom.evaluation.results import Results

CSV_FILE, PAGE_FILE = "results.csv", "report.html"


def write_report(results: Results, folder: Path) -> None:
    """Write ``results.json``, ``results.csv`` and ``report.html``, each atomically. Raises OSError."""
    results.write(folder)
    write_csv_file(results, folder / CSV_FILE)
    write_page(results, folder / PAGE_FILE)
