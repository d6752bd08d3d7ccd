"""The options of ``fedloom evaluate``."""

from pathlib import Path
from typing import Annotated

import typer

DEFAULT_DATA = Path("evaluation-data")

Adapters = Annotated[
    list[Path] | None,
    typer.Argument(
        metavar="ADAPTER",
        help="Folders from `fedloom adapter pull`, or other LoRA adapters of PEFT, on one base model.",
        show_default=False,
    ),
]
Suite = Annotated[
    str | None,
    typer.Option(
        help="paper, general, finance, medical, code, math, safety, chat, or a YAML file.", show_default="paper"
    ),
]
Tasks = Annotated[str | None, typer.Option(help="Names of tasks, separated by commas, in place of a suite.")]
Limit = Annotated[
    int | None,
    typer.Option(min=1, help="Most items of a task, spread over its subjects by --seed; by default all.", metavar="N"),
]
Data = Annotated[Path, typer.Option(envvar="FEDLOOM_EVALUATION_DATA", help="The folder of evaluation data.")]
Base = Annotated[
    str | None,
    typer.Option(metavar="MODEL", help="The base model's folder or hub id; by default what the adapters name."),
]
Out = Annotated[Path | None, typer.Option(help="The folder of results; by default evaluations/NAME.")]
Seed = Annotated[int, typer.Option(min=0, help="Of the draw of items, of sampled replies and of intervals.")]
Threads = Annotated[int | None, typer.Option(min=1, help="CPU threads; by default every core.")]
Fetch = Annotated[bool, typer.Option("--fetch", help="Download missing data from the hub.")]
RunUntrustedCode = Annotated[
    bool,
    typer.Option(
        "--run-untrusted-code",
        help="Run code that a model wrote without a sandbox, with the rights of this user. Only where bubblewrap "
        "cannot be installed, and nothing here is worth protecting.",
    ),
]
Training = Annotated[
    list[Path] | None,
    typer.Option(
        metavar="ROWS",
        help="A file or folder of rows that the adapters were trained on; items that occur in them are counted. May be "
        "repeated.",
        show_default=False,
    ),
]
JudgeUrl = Annotated[
    str | None,
    typer.Option(
        metavar="URL",
        help="An OpenAI-compatible server, such as https://api.openai.com/v1, whose model rates answers to open-ended "
        "questions (--suite chat). Questions and answers are sent there. Its key is read from FEDLOOM_JUDGE_KEY.",
    ),
]
JudgeModel = Annotated[str | None, typer.Option(metavar="NAME", help="The model that judges.")]
JudgeMaxTokens = Annotated[
    int | None,
    typer.Option(
        min=1,
        metavar="N",
        help="What the judge may cost, prompts and replies of all models together. If it may be more, nothing is sent.",
        show_default="1000000",
    ),
]
List = Annotated[
    bool,
    typer.Option(
        "--list", help="List all tasks, or those chosen: their metrics and data, and what is here; run nothing."
    ),
]
