"""The quickstart: the benefit of federated training for each owner.

    make demo            # or: python examples/quickstart/demo.py

Three owners have disjoint records. Five campaigns run over real HTTP with the same number of steps: the three owners
together, each owner alone, and, as a comparison that is impossible in practice, all records in one place. Then every
model answers the same questions, in phrasings that no model was trained on.
"""

import argparse
import json
import os
import shutil
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from contest import Entry, compete
from exam import Exam, Marks
from make_data import FILES, make_data, read_rows
from plot import plot
from rich.console import Console
from rich.live import Live
from rich.padding import Padding
from rich.progress import track
from rich.progress_bar import ProgressBar
from rich.table import Table
from world import OWNERS, Split

from agent.configuration.settings import load_settings
from agent.errors import AgentError
from agent.orders.on_base.model import LoraFile
from fedloom.errors import FedloomError
from fedloom.simulation.clients import limits_in_words
from fedloom.simulation.run import ADAPTER_FOLDER
from shared.campaign.file import read_campaign_file

HERE = Path(__file__).resolve().parent
POLL_S = 0.5
SETTINGS = """\
# The settings of every agent in the demo.

[data.records]
path = "data/records.jsonl"
held_out = 0.15               # about 40 of an owner's 288 rows; owners ask for 20 behind each number

[models]
"fedloom/quickstart" = {model}

[compute]
device = "cpu"
threads = 1
"""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seed", type=int, default=1, help="seed of the records and of the campaigns (default 1)")
    parser.add_argument("--out", type=Path, default=Path("demo"), help="output folder (default demo)")
    parser.add_argument(
        "--split",
        type=Split,
        choices=[Split.VALIDATION, Split.TEST],
        default=Split.TEST,
        help="questions of the exam; use validation to choose settings (default test)",
    )
    given = parser.parse_args()
    console = Console(highlight=False)
    started = time.monotonic()
    try:
        run(console, given.seed, given.out, given.split)
    except KeyboardInterrupt:
        console.print("\nstopped")
        sys.exit(130)
    except (AgentError, FedloomError, OSError) as error:
        sys.exit(f"the demo failed: {error}")
    console.print(f"[dim]{time.monotonic() - started:.0f} s in total[/]")


def run(console: Console, seed: int, out: Path, split: Split) -> None:
    """Write the data, run the campaigns and the exam, show the results."""
    _make_room(out)
    make_data(out / "data", seed)
    records, questions = (read_rows(out / "data" / FILES[each]) for each in (Split.TRAIN, split))
    for name in ("campaign.yaml", "comparison.yaml"):
        shutil.copyfile(HERE / name, out / name)
    (out / "agent.toml").write_text(SETTINGS.format(model=json.dumps(str(HERE / "model"))), encoding="utf-8")
    spec, settings = read_campaign_file(out / "campaign.yaml"), load_settings(out / "agent.toml")
    spec = spec.model_copy(update={"training": spec.training.model_copy(update={"seed": seed})})
    together = Entry("the three together", OWNERS, federated=True)
    alone = [Entry(f"the {owner} alone", [owner]) for owner in OWNERS]
    in_one_place = Entry("all data in one place", OWNERS)
    console.print(
        f"[bold]1[/]  Three owners, {len(records)} records: each holds a third, and knows nothing of the rest.\n"
        f"[bold]2[/]  Five campaigns of {spec.rounds} rounds with {spec.training.steps} steps; two run at a time."
    )
    console.print(f"   [dim]{limits_in_words(settings.policy)}[/]", soft_wrap=True)
    with Live(console=console, auto_refresh=False) as live:
        entries = [*alone, together, in_one_place]
        for _ in compete([together, *alone, in_one_place], spec, settings, records, out):
            live.update(_race(entries, spec.rounds), refresh=True)
            time.sleep(POLL_S)
    if not console.is_terminal:
        console.print()  # outside of a terminal the live display ends without a newline
    console.print(f"[bold]3[/]  One exam for all: {len(questions)} questions in words that nobody was trained on.")
    with Exam(questions, HERE / "model", spec.data, out) as exam:
        results = _examine(exam, entries, console)
        example = {title: exam.answers(adapter)[0] for title, adapter in _asked(together, alone)}
    (out / "results.json").write_text(json.dumps(results, indent=2) + "\n", encoding="utf-8")
    console.print(_table(results, together.title))
    console.print(_example(questions[0], example))
    plot(out / "plot.png", {entry.title: entry.held_out_loss for entry in entries}, results, together.title)
    _show_next_steps(console, out, together)


def _make_room(out: Path) -> None:
    """Delete the output of an earlier demo. Exits if *out* holds something else."""
    if not out.exists() or not any(out.iterdir()):
        return
    if not (out / "data" / FILES[Split.TRAIN]).is_file():
        sys.exit(f"{out} is not empty and holds no earlier demo; choose another folder with --out")
    shutil.rmtree(out)


def _examine(exam: Exam, entries: Sequence[Entry], console: Console) -> dict[str, dict[int, Marks]]:
    """Marks by campaign title and adapter number: all adapters of the federation, every second one of the others."""
    papers = [(entry, number) for entry in entries for number in entry.adapters if entry.federated or number % 2 == 0]
    marks: dict[str, dict[int, Marks]] = {entry.title: {} for entry in entries}
    for entry, number in track(papers, "   marking", console=console, transient=True):
        marks[entry.title][number] = exam.marks(entry.adapters[number])
    return marks


def _asked(together: Entry, alone: Sequence[Entry]) -> Iterator[tuple[str, LoraFile | None]]:
    """The models that answer the example: title and adapter."""
    yield "the base model", None
    for entry in (*alone, together):
        yield entry.title, entry.adapters[max(entry.adapters)]


def _race(entries: Sequence[Entry], rounds: int) -> Table:
    """A progress bar for each campaign."""
    table = Table.grid(padding=(0, 2, 0, 0))
    for entry in entries:
        losses = entry.held_out_loss
        status = f"held-out loss {losses[min(losses)]:.2g} → {losses[max(losses)]:.2g}" if losses else entry.state
        bar = ProgressBar(total=rounds, completed=entry.rounds_closed, width=12)
        table.add_row(f"   {entry.title}", bar, f"{entry.rounds_closed}/{rounds}", status)
    return table


def _table(results: Mapping[str, Mapping[int, Marks]], together: str) -> Padding:
    """Exact answers of each model, by the owner whose records contain the answer."""
    table = Table(box=None, padding=(0, 2, 0, 0), header_style="bold")
    table.add_column("exact answers, % of the questions on")
    for column in (*OWNERS, "all"):
        table.add_column(column, justify="right")
    last = {title: marks[max(marks)] for title, marks in results.items()}
    for title, marks in {"the base model": results[together][0], **last}.items():
        cells = (f"{100 * marks[column]:.0f}" for column in (*OWNERS, "all"))
        table.add_row(title, *cells, style="bold green" if title == together else "")
    return Padding(table, (1, 0, 1, 3))


def _example(question: Mapping[str, str], answers: Mapping[str, str]) -> Padding:
    """One question, and each model's answer."""
    table = Table.grid(padding=(0, 2, 0, 0))
    table.add_row("[dim]asked[/]", f"[bold]{question['prompt']}[/]")
    table.add_row("[dim]right[/]", question["completion"])
    for title, answer in answers.items():
        table.add_row(f"[dim]{title}[/]", answer.strip())
    return Padding(table, (0, 0, 1, 3))


def _show_next_steps(console: Console, out: Path, together: Entry) -> None:
    adapter, model = out / together.name / ADAPTER_FOLDER, Path(os.path.relpath(HERE / "model"))
    fedloom = Path(os.path.relpath(Path(sys.executable).with_name("fedloom")))
    console.print(
        f"[bold]4[/]  What each owner gets: what all of them know, and no record left its owner.\n\n"
        f"   the plot of losses and answers by round: {out / 'plot.png'}\n"
        "   ask the models yourself:\n"
        f"     {fedloom} chat {adapter} --base {model}\n"
        "   the same campaign with twenty clients:\n"
        f"     {fedloom} simulate {out / 'campaign.yaml'} --clients 20\n"
        "   with real agents: README.md, From nothing to a running campaign\n",
        soft_wrap=True,
    )


if __name__ == "__main__":
    main()
