"""The agent's settings: one TOML file, written by its owner, never sent anywhere."""

import codecs
import tomllib
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from agent.data.presets import PLACE, PRESETS
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


class NetworkSettings(Section):
    """How long the agent waits for the coordinator. A request that takes longer is cut and tried again."""

    connect_timeout_s: Annotated[float, Field(ge=1, le=600)] = 10.0
    """Seconds to connect, TLS included."""
    timeout_s: Annotated[float, Field(ge=1, le=3600)] = 30.0
    """Seconds without a byte after which a request, an upload or a download is cut."""
    chunk_timeout_s: Annotated[float, Field(ge=1, le=3600)] = 60.0
    """Seconds to wait for the reply once a chunk of an upload is sent; a slow line may still be sending it then."""
    result_timeout_s: Annotated[float, Field(ge=1, le=86400)] = 600.0
    """Seconds to wait for the reply to a result: the coordinator checks the whole update first."""
    wait_s: Annotated[float, Field(ge=0, le=3600)] = 50.0
    """Seconds that a request for work may wait for some; keep it below the idle time-outs of proxies on the way. The
    coordinator may answer earlier."""


class DataSource(Section):
    """One data set of the owner: a file or folder (`path`), or a data set of the hub (`hub`)."""

    preset: str | None = None
    """A well-known data set, which says the columns and, without `path`, the hub id. What is set here goes before."""
    path: Path | None = None
    """A file of rows (`.jsonl`, `.json`, `.csv`, `.tsv`, `.parquet`, or text with a `separator`), a text one of them
    compressed too (`.gz`, `.bz2`, `.xz`), or the folder of a saved dataset; relative to the settings file."""
    hub: Annotated[str, Field(min_length=1)] | None = None
    """A data set of the hub, such as `tatsu-lab/alpaca`, instead of `path`."""
    split: Annotated[str, Field(min_length=1)] = "train"
    """Which part of a hub's or a saved data set."""
    revision: Annotated[str, Field(min_length=1)] | None = None
    """Branch, tag or commit at the hub."""
    separator: Annotated[str, Field(min_length=1)] | None = None
    """What stands between cells of a `.csv` or `.tsv`; in other text, one row a line, what stands between the columns
    `prompt` and `completion`: the last in the line."""
    encoding: str = "utf-8"
    """Encoding of a text file; JSON is always UTF-8."""
    prompt: str = "prompt"
    """Column of the prompt: text, or the messages of a conversation that end with it."""
    input: str | None = None
    """Column of further input, added below the prompt where a row has it."""
    completion: str = "completion"
    """Column of the completion: the part that the loss covers."""
    messages: str | None = None
    """Column of a whole conversation, instead of prompt and completion: a list of `role` and `content`, or of `from`
    and `value`. The loss covers each reply in it."""
    chosen: str = "chosen"
    """Column of the better completion, in campaigns of kind `dpo`, which have pairs instead of one completion."""
    rejected: str = "rejected"
    """Column of the worse completion, in campaigns of kind `dpo`."""
    unique: str | None = None
    """Column in which no two rows are equal: all but the first are left out."""
    template: Path | None = None
    """A Jinja chat template of the owner's, which replaces what the campaign names; relative to the settings file."""
    held_out: Annotated[float, Field(ge=0, lt=1)] = 0.1
    """Fraction kept for evaluation. Chosen by the row's own content, so it stays the same when rows are added."""
    held_out_path: Path | None = None
    """A file of evaluation rows, instead of a fraction."""

    @model_validator(mode="before")
    @classmethod
    def _of_preset(cls, given: Any) -> Any:
        if not isinstance(given, dict) or not isinstance(given.get("preset"), str):
            return given
        if given["preset"] not in PRESETS:
            message = f"there is no preset {given['preset']!r}; there are {', '.join(PRESETS)}"
            raise ValueError(message)
        known = PRESETS[given["preset"]]
        if given.get("path") or given.get("hub"):
            known = {name: value for name, value in known.items() if name not in PLACE}
        return known | given

    @model_validator(mode="after")
    def _is_somewhere(self) -> Self:
        if (self.path is None) == (self.hub is None):
            message = "give either path or hub, or a preset"
            raise ValueError(message)
        try:
            codecs.lookup(self.encoding)
        except LookupError as error:
            message = f"encoding: there is none called {self.encoding!r}"
            raise ValueError(message) from error
        return self

    @property
    def label(self) -> str:
        """What messages call it."""
        return self.path.name if self.path is not None else str(self.hub)

    def at(self, path: Path) -> Self:
        """The same columns in another file."""
        return self.model_copy(update={"path": path, "hub": None, "revision": None})

    @property
    def held_out_source(self) -> Self | None:
        """The owner's file of evaluation rows, read in the same way."""
        return self.at(self.held_out_path) if self.held_out_path is not None else None

    def columns(self, kind: TrainingKind) -> dict[str, str]:
        """The columns that a row must have for a kind of training, by their roles."""
        if kind == "dpo":
            return {"prompt": self.messages or self.prompt, "chosen": self.chosen, "rejected": self.rejected}
        if self.messages is not None:
            return {"messages": self.messages}
        return {"prompt": self.prompt, "completion": self.completion}


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
    network: NetworkSettings = NetworkSettings()
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
        given = {key: getattr(source, key) for key in ("path", "held_out_path", "template")}
        data[name] = source.model_copy(update={key: at(path) for key, path in given.items() if path is not None})
    models = {name: at(path) for name, path in settings.models.items()}
    return settings.model_copy(update={"data": data, "models": models})


TEMPLATE = """\
# Settings of this Fedloom agent. They stay on this machine. Every line that starts with # shows a default.

# The data that campaigns may name; look at it with: fedloom agent check-data finance
# [data.finance]
# path = "finance.jsonl"     # relative to this file; .jsonl, .json, .csv, .tsv, .parquet, text, a saved dataset
# preset = "alpaca"          # a well-known data set, which says the columns and, without path, where it is at the hub
# prompt = "prompt"          # column names
# completion = "completion"
# messages = "messages"      # or a column of conversations
# chosen = "chosen"          # or, for preferences, two completions
# rejected = "rejected"
# template = "own.jinja"     # a chat template of your own, in place of the campaign's
# held_out = 0.1             # fraction of rows kept for evaluation, never trained on

[compute]
# device = "auto"            # cpu, cuda, cuda:1, mps
# dtype = "auto"             # of the base model: float32, bfloat16, float16; auto: bfloat16 on a GPU that has it
# threads = 4                # left out: all cores
# micro_batch = 4            # rows at once; halved by itself when memory runs out
# checkpoint_every = 50      # optimizer steps; a crash in training costs these at most. 0: no checkpoints

[cache]
# max_bytes = 4294967296

# Seconds to wait for the coordinator; a request that takes longer is tried again.
[network]
# connect_timeout_s = 10
# timeout_s = 30             # without a byte, of any request
# chunk_timeout_s = 60       # for the reply to a chunk of an upload
# result_timeout_s = 600     # for the reply to a result, which is checked first
# wait_s = 50                # that a request for work waits; a proxy on the way may allow less

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
