"""The agent's settings: one TOML file, written by the data owner and never sent anywhere."""

import tomllib
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError
from pydantic_core import ErrorDetails

from agent.data.source import DataSource
from agent.errors import SettingsError
from shared.campaign.spec import LoraSection, Name


class Section(BaseModel):
    """A table of the settings file."""

    model_config = ConfigDict(extra="forbid", frozen=True, use_attribute_docstrings=True)


class ComputeSettings(Section):
    """What the training child may use."""

    device: Annotated[str, Field(pattern=r"^(auto|cpu|mps|cuda(:\d+)?)$")] = "auto"
    """`auto`, `cpu`, `cuda`, `cuda:1`, `mps`."""
    dtype: Literal["auto", "float32", "bfloat16", "float16"] = "auto"
    """Precision of the frozen base model. `auto`: bfloat16 on a GPU that supports it, else float32. Adapters are always
    float32."""
    threads: Annotated[int, Field(ge=1)] | None = None
    """CPU threads; default: all cores. On a shared host give each agent a part of the cores."""
    micro_batch: Annotated[int, Field(ge=1)] = 4
    """Rows, or pairs of completions, that go through the model at once. Halved automatically when memory runs out."""
    checkpoint_every: Annotated[int, Field(ge=0)] = 50
    """Optimizer steps between two training checkpoints; 0 turns checkpoints off."""
    max_lora_rank: Annotated[int, Field(ge=1)] | None = None
    """The largest rank that this machine trains; default: no limit. A campaign whose algorithm mixes ranks gives it a
    smaller adapter; others of a larger rank are refused."""

    def rank_of(self, lora: LoraSection) -> int:
        """The rank that this machine trains of a campaign's adapter."""
        return lora.rank if self.max_lora_rank is None else min(lora.rank, self.max_lora_rank)


class CacheSettings(Section):
    """The folder of downloaded adapters."""

    max_bytes: Annotated[int, Field(ge=0)] = 4 << 30
    """Bytes of adapters to keep. Beyond that the least recently used are deleted."""


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


class PolicySettings(Section):
    """What the owner accepts, whatever a campaign asks for. `*` in a pattern matches any text."""

    base_models: list[str] = ["*"]
    """Patterns of base models."""
    kinds: list[str] = ["sft", "dpo"]
    """Kinds of training."""
    algorithms: list[str] = ["*"]
    """Patterns of federated algorithms."""
    max_steps: Annotated[int, Field(ge=1)] | None = None
    """Most optimizer steps a round; default: no limit."""
    max_rounds: Annotated[int, Field(ge=1)] | None = None
    """Most rounds of one campaign; default: no limit."""
    remote_code: bool = False
    """Whether code that comes with a base model may run here."""
    report_losses: bool = True
    """Whether losses on this data may be sent. If false, evaluation is refused too."""


class AgentSettings(Section):
    """All of `agent.toml`."""

    compute: ComputeSettings = ComputeSettings()
    cache: CacheSettings = CacheSettings()
    network: NetworkSettings = NetworkSettings()
    policy: PolicySettings = PolicySettings()
    models: dict[str, Path] = {}
    """Folders of base models on this machine, by their name in the campaign. Others are fetched from the hub."""
    data: dict[Name, DataSource] = {}
    """Data sources by the logical name that campaigns use."""


_PLAIN_TERMS = {
    "a valid integer, unable to parse string as an integer": "a whole number",
    "a valid integer": "a whole number",
    "a valid number, unable to parse string as a number": "a number",
    "a valid dictionary": "a table",
    "a valid list": "a list",
    "a valid string": "text",
    "greater than or equal to": "at least",
}


def load_settings(path: Path) -> AgentSettings:
    """Read the settings, resolving paths relative to the file's folder. Raises SettingsError."""
    try:
        raw = tomllib.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise SettingsError(path, "there is no such file; `fedloom agent enroll` writes one to start from") from error
    except OSError as error:
        raise SettingsError(path, f"the file cannot be read: {error.strerror}") from error
    except (UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise SettingsError(path, f"the file is not valid TOML: {error}") from error
    try:
        settings = AgentSettings.model_validate(raw)
    except ValidationError as error:
        raise SettingsError(path, "; ".join(map(_describe, error.errors()))) from error
    try:
        return _absolute(settings, path.resolve().parent)
    except RuntimeError as error:
        message = "a path starts with ~ and the name of a user whose home folder is unknown; give the path in full"
        raise SettingsError(path, message) from error


def _describe(error: ErrorDetails) -> str:
    """Describe a validation error in an owner's terms instead of pydantic's."""
    *_, last = location = [str(part) for part in error["loc"]]
    if last == "[key]":
        rule = "a name has at most 63 letters, digits, '.', '_' and '-', and starts with a letter or digit"
        return f"{'.'.join(location[:-1])}: {rule}"
    key = ".".join(location)
    if error["type"] == "extra_forbidden":
        return f"{key}: there is no such setting; correct its name, or remove it"
    if key == "compute.device":
        return f"{key}: must be auto, cpu, mps, cuda, or a GPU such as cuda:1"
    message = error["msg"].removeprefix("Value error, ").replace("Input should be", "must be")
    for term, plain in _PLAIN_TERMS.items():
        message = message.replace(term, plain)
    return f"{key}: {message}"


def _absolute(settings: AgentSettings, folder: Path) -> AgentSettings:
    def absolute(path: Path) -> Path:
        return folder / path.expanduser()

    data: dict[str, Any] = {}
    for name, source in settings.data.items():
        paths = {key: getattr(source, key) for key in ("path", "held_out_path", "template")}
        data[name] = source.model_copy(update={key: absolute(path) for key, path in paths.items() if path is not None})
    models = {name: absolute(path) for name, path in settings.models.items()}
    return settings.model_copy(update={"data": data, "models": models})


TEMPLATE = """\
# Settings of this Fedloom agent. They stay on this machine. Settings behind a # show the defaults, or an example.

# The data that campaigns may name. Check it with: fedloom agent check-data finance
# [data.finance]
# path = "finance.jsonl"     # relative to this file: .jsonl, .json, .csv, .tsv, .parquet, text, a saved dataset
# preset = "alpaca"          # a well-known data set: sets the columns and, without path, the hub id
# prompt = "prompt"          # column names
# completion = "completion"
# messages = "messages"      # or: a column of whole conversations
# chosen = "chosen"          # or, for preferences: two completions
# rejected = "rejected"
# template = "own.jinja"     # your own chat template, instead of the campaign's
# held_out = 0.1             # fraction of rows for evaluation, never trained on

[compute]
# device = "auto"            # cpu, cuda, cuda:1, mps
# dtype = "auto"             # of the base model: float32, bfloat16, float16; auto: bfloat16 on GPUs that support it
# threads = 4                # CPU threads; default: all cores
# micro_batch = 4            # rows at once; halved automatically when memory runs out
# checkpoint_every = 50      # optimizer steps, the most that a crash in training can cost; 0: no checkpoints
# max_lora_rank = 8          # the largest rank to train; default: no limit

[cache]
# max_bytes = 4294967296

# Seconds to wait for the coordinator. A request that takes longer is tried again.
[network]
# connect_timeout_s = 10
# timeout_s = 30             # without a byte, of any request
# chunk_timeout_s = 60       # for the reply to a chunk of an upload
# result_timeout_s = 600     # for the reply to a result, which is checked first
# wait_s = 50                # that a request for work waits; a proxy on the way may allow less

# Folders of base models on this machine. Others are fetched from the hub, with your HF_TOKEN if they need one.
[models]
# "HuggingFaceTB/SmolLM2-135M-Instruct" = "/models/smollm2-135m-instruct"

# What you accept, whatever a campaign asks for.
[policy]
# base_models = ["*"]        # patterns
# kinds = ["sft", "dpo"]     # training on completions, on preferences
# algorithms = ["*"]
# max_steps = 100            # optimizer steps a round; default: no limit
# max_rounds = 200           # rounds a campaign; default: no limit
# remote_code = false        # code that comes with a base model
# report_losses = true       # false: no loss is sent, and evaluation is refused
"""
