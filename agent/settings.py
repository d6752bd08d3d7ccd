"""The agent's settings: one TOML file, written by its owner, never sent anywhere."""

import tomllib
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from agent.errors import SettingsError
from shared.campaign import Name, TrainingKind


class Section(BaseModel):
    """A table of the settings file."""

    model_config = ConfigDict(extra="forbid", frozen=True, use_attribute_docstrings=True)


class ComputeSettings(Section):
    """What the training child may use."""

    device: Annotated[str, Field(pattern=r"^(auto|cpu|mps|cuda(:\d+)?)$")] = "auto"
    """`auto`, `cpu`, `cuda`, `cuda:1`, `mps`."""
    dtype: Literal["auto", "float32", "bfloat16", "float16"] = "auto"
    """Precision of the frozen base model; `auto`: bfloat16 on a GPU that has it, else float32. Adapters are float32."""
    threads: Annotated[int, Field(ge=1)] | None = None
    """CPU threads; left out, all cores. Give each agent on a shared host its part."""
    micro_batch: Annotated[int, Field(ge=1)] = 4
    """Rows, or pairs of completions, that go through the model at once. Halved by itself when memory runs out."""
    checkpoint_every: Annotated[int, Field(ge=0)] = 50
    """Optimizer steps between two checkpoints of a training; 0 makes none."""


class CacheSettings(Section):
    """The folder of downloaded adapters."""

    max_bytes: Annotated[int, Field(ge=0)] = 4 << 30
    """The least recently used adapters go when it is exceeded."""


class DataSource(Section):
    """One data set of the owner."""

    path: Path
    """A `.jsonl`, `.json` or `.csv` file; relative to the settings file."""
    prompt: str = "prompt"
    """Column of the prompt."""
    input: str | None = None
    """Column of further input, added below the prompt where a row has it."""
    completion: str = "completion"
    """Column of the completion: the part that the loss covers."""
    chosen: str = "chosen"
    """Column of the better completion, in campaigns of kind `dpo`, which have pairs instead of one completion."""
    rejected: str = "rejected"
    """Column of the worse completion, in campaigns of kind `dpo`."""
    held_out: Annotated[float, Field(ge=0, lt=1)] = 0.1
    """Fraction kept for evaluation. Chosen by the row's own content, so it stays the same when rows are added."""
    held_out_path: Path | None = None
    """A file of evaluation rows, instead of a fraction."""

    def columns(self, kind: TrainingKind) -> dict[str, str]:
        """The columns that a row must have for a kind of training, by their roles."""
        answers = {"chosen": self.chosen, "rejected": self.rejected}
        return {"prompt": self.prompt} | (answers if kind == "dpo" else {"completion": self.completion})


class PolicySettings(Section):
    """What this owner accepts, whatever a campaign asks for. `*` stands for any text in a pattern."""

    base_models: list[str] = ["*"]
    """Patterns of base models."""
    kinds: list[str] = ["sft", "dpo"]
    """Kinds of training."""
    algorithms: list[str] = ["*"]
    """Patterns of federated algorithms."""
    max_steps: Annotated[int, Field(ge=1)] | None = None
    """Optimizer steps a round, at most."""
    max_rounds: Annotated[int, Field(ge=1)] | None = None
    """Rounds of one campaign, at most."""
    remote_code: bool = False
    """Whether code that comes with a base model may run here."""
    report_losses: bool = True
    """Whether losses on this data may leave. Without it, evaluation is refused too."""


class AgentSettings(Section):
    """All of `agent.toml`."""

    compute: ComputeSettings = ComputeSettings()
    cache: CacheSettings = CacheSettings()
    policy: PolicySettings = PolicySettings()
    models: dict[str, Path] = {}
    """Where base models lie on this machine: name in the campaign to folder. Others are fetched from the hub."""
    data: dict[Name, DataSource] = {}
    """Data sources by the logical name that campaigns use."""


def load_settings(path: Path) -> AgentSettings:
    """Read the settings, with paths made absolute from the file's folder. Raises SettingsError."""
    try:
        raw = tomllib.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise SettingsError(path, "there is no such file; `fedloom agent enroll` writes one to start from") from error
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise SettingsError(path, str(error)) from error
    try:
        settings = AgentSettings.model_validate(raw)
    except ValidationError as error:
        wrong = "; ".join(f"{'.'.join(map(str, e['loc']))}: {e['msg']}" for e in error.errors(include_url=False))
        raise SettingsError(path, wrong) from error
    try:
        return _absolute(settings, path.resolve().parent)
    except RuntimeError as error:  # a ~user that nobody is
        raise SettingsError(path, str(error)) from error


def _absolute(settings: AgentSettings, folder: Path) -> AgentSettings:
    def at(path: Path) -> Path:
        return folder / path.expanduser()

    data: dict[str, Any] = {}
    for name, source in settings.data.items():
        held_out = at(source.held_out_path) if source.held_out_path else None
        data[name] = source.model_copy(update={"path": at(source.path), "held_out_path": held_out})
    models = {name: at(path) for name, path in settings.models.items()}
    return settings.model_copy(update={"data": data, "models": models})


TEMPLATE = """\
# Settings of this Fedloom agent. They stay on this machine. Every line that starts with # shows a default.

# The data that campaigns may name. `path` is relative to this file; .jsonl, .json or .csv.
# [data.finance]
# path = "finance.jsonl"
# prompt = "prompt"          # column names
# completion = "completion"  # or, for preferences, two:
# chosen = "chosen"
# rejected = "rejected"
# held_out = 0.1             # fraction of rows kept for evaluation, never trained on

[compute]
# device = "auto"            # cpu, cuda, cuda:1, mps
# threads = 4                # left out: all cores
# micro_batch = 4            # rows at once; halved by itself when memory runs out
# checkpoint_every = 50      # optimizer steps; a crash in training costs these at most. 0: no checkpoints

[cache]
# max_bytes = 4294967296

# Where base models lie on this machine; others are fetched from the hub, with your own HF_TOKEN where they need one.
[models]
# "HuggingFaceTB/SmolLM2-135M-Instruct" = "/models/smollm2-135m-instruct"

# What you accept, whatever a campaign asks for.
[policy]
# base_models = ["*"]        # patterns
# kinds = ["sft", "dpo"]     # fine-tuning on completions, on preferences
# algorithms = ["*"]
# max_steps = 100            # a round
# max_rounds = 200           # a campaign
# remote_code = false        # code that comes with a base model
# report_losses = true       # false: no loss leaves, and evaluation is refused
"""
