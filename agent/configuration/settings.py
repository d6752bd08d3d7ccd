"""The agent's settings: one TOML file, written by the data owner and never sent anywhere."""

import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, PrivateAttr, ValidationError

from agent.configuration.policy import PolicySettings
from agent.configuration.problems import line_of, lines_of, problems_by_location, syntax_problem
from agent.configuration.toml_lines import Location, index_lines
from agent.configuration.trainers import OWN, known_trainer
from agent.data.source import DataSource
from agent.errors import SettingsError, TaskFailed
from shared.campaign.file import FileProblem
from shared.campaign.spec import LoraSection, Name
from shared.text.text_file import read_text
from shared.wire.tasks.leases import FailureKind

SETTINGS_FILE = "agent.toml"
_PATHS = ("path", "held_out_path", "template")
"""The settings of a data source that are paths."""


class Section(BaseModel):
    """A table of the settings file."""

    model_config = ConfigDict(extra="forbid", frozen=True, use_attribute_docstrings=True)


class ComputeSettings(Section):
    """What the training child may use."""

    device: Annotated[str, Field(pattern=r"^(auto|cpu|mps|cuda(:[0-9]+)?)$")] = "auto"
    """`auto`, `cpu`, `cuda`, `cuda:1`, `mps`."""
    dtype: Literal["auto", "float32", "bfloat16", "float16"] = "auto"
    """Precision of the frozen base model on a GPU. `auto`: bfloat16 if it supports that, else float32. On a CPU the
    campaign decides (`base.cpu_dtype`), and a value other than `auto` that contradicts it is refused. Adapters are
    always float32."""
    processes: Annotated[int, Field(ge=1, le=64)] = 1
    """Processes that train together, each with the whole base model: one a GPU, from that of `device` on. They give the
    update of one process, in less time. Without a GPU they divide the threads."""
    threads: Annotated[int, Field(ge=1)] | None = None
    """CPU threads; default: all cores. On a shared host give each agent a part of the cores."""
    micro_batch: Annotated[int, Field(ge=1)] = 16
    """The most rows, or pairs of completions, that go through the model at once, in each process. Fewer do where the
    estimated need is above the memory that is free, and on a CPU, which gets no faster beyond 512 tokens at once.
    Halved if memory runs out after all."""
    checkpoint_every: Annotated[int, Field(ge=0)] = 50
    """Optimizer steps between two training checkpoints; 0 turns checkpoints off."""
    idle_s: Annotated[float, Field(ge=0, le=86400 * 365)] = 600.0
    """Seconds without a task after which the training process ends, which holds the base model in memory. The next task
    loads it again."""
    max_lora_rank: Annotated[int, Field(ge=1)] | None = None
    """The largest rank that this machine trains; default: no limit. A campaign whose algorithm mixes ranks gives it a
    smaller adapter; others of a larger rank are refused."""
    trainer: Annotated[str, Field(min_length=1), AfterValidator(known_trainer)] = OWN
    """What loads the base model, trains and evaluates, by the name of an installed plug-in. `trl` is Fedloom's own. Any
    other is code that you trust as you trust Fedloom; on its first use with a base its losses and updates are compared
    with Fedloom's own."""
    hub_kernels: bool = False
    """Whether libraries may fetch compiled kernels from the hub and run them: code that nobody has checked. Only for a
    `trainer` that needs it."""

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


class EvaluationSettings(Section):
    """Public benchmarks, which run here if `policy.suites` names them."""

    data: Path = Path("evaluation-data")
    """The folder of their data, relative to this file. `fedloom evaluate --list` says what belongs into it."""


class AgentSettings(Section):
    """All of `agent.toml`."""

    compute: ComputeSettings = ComputeSettings()
    cache: CacheSettings = CacheSettings()
    network: NetworkSettings = NetworkSettings()
    policy: PolicySettings = PolicySettings()
    evaluation: EvaluationSettings = EvaluationSettings()
    models: dict[str, Path] = {}
    """Folders of base models on this machine, by their name in the campaign. Others are fetched from the hub."""
    data: dict[Name, DataSource] = {}
    """Data sources by the logical name that campaigns use."""
    _broken_data: dict[str, tuple[FileProblem, ...]] = PrivateAttr(default_factory=dict)

    @property
    def broken_data(self) -> dict[str, tuple[FileProblem, ...]]:
        """The data sources whose tables cannot be used, with their problems."""
        return self._broken_data

    def source(self, name: str) -> DataSource | None:
        """Return the data source of a name; None if there is none. Raises TaskFailed (data) if its table is broken."""
        if name in self._broken_data:
            broken = self._broken_data[name]
            private = "; ".join(f"{SETTINGS_FILE}, {problem}" for problem in broken)
            message = f"data.{name}: its table in {SETTINGS_FILE} cannot be used ({lines_of(broken)}): correct it"
            raise TaskFailed(FailureKind.DATA, message, private)
        return self.data.get(name)


def load_settings(path: Path) -> AgentSettings:
    """Read the settings, resolving paths relative to the file's folder. Raises SettingsError.

    A problem in the table of one data source makes only that one unusable: ``AgentSettings.broken_data`` has it.
    """
    try:
        text = read_text(path)
    except FileNotFoundError as error:
        raise SettingsError(path, "there is no such file; `fedloom agent enroll` writes one to start from") from error
    except OSError as error:
        raise SettingsError(path, f"the file cannot be read: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise SettingsError(path, "the file is not UTF-8 text; save it as UTF-8") from error
    try:
        raw = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise SettingsError(path, problems=[syntax_problem(error, text)]) from error
    except RecursionError as error:
        raise SettingsError(path, "the file is too deeply nested") from error
    lines = index_lines(text)
    settings, broken = _validated(path, raw, lines)
    return _absolute(settings, broken, path, lines)


def _validated(
    path: Path, raw: dict[str, Any], lines: Mapping[Location, int]
) -> tuple[AgentSettings, dict[str, list[FileProblem]]]:
    """Return the settings without the broken data sources, and the problems of these. Raises SettingsError."""
    broken: dict[str, list[FileProblem]] = {}
    try:
        return AgentSettings.model_validate(raw), broken
    except ValidationError as error:
        found = problems_by_location(error, lines, AgentSettings)
        for location, problem in found:
            if location[0] != "data" or len(location) == 1:
                raise SettingsError(path, problems=[problem for _, problem in found]) from error
            broken.setdefault(str(location[1]), []).append(problem)
    usable = {name: table for name, table in raw["data"].items() if name not in broken}
    return AgentSettings.model_validate(raw | {"data": usable}), broken


def _absolute(
    settings: AgentSettings, broken: dict[str, list[FileProblem]], path: Path, lines: Mapping[Location, int]
) -> AgentSettings:
    """Return the settings with paths relative to the folder of the file at *path*. Raises SettingsError."""
    folder = path.resolve().parent

    def absolute(*location: str, value: Path) -> Path | FileProblem:
        try:
            return folder / value.expanduser()
        except RuntimeError:
            message = "starts with ~ and the name of a user whose home folder is unknown; give the path in full"
            return FileProblem(line_of(location, lines), ".".join(location), message)

    models = {name: absolute("models", name, value=value) for name, value in settings.models.items()}
    if problems := [problem for problem in models.values() if isinstance(problem, FileProblem)]:
        raise SettingsError(path, problems=problems)
    evaluation = absolute("evaluation", "data", value=settings.evaluation.data)
    if isinstance(evaluation, FileProblem):
        raise SettingsError(path, problems=[evaluation])
    data: dict[str, DataSource] = {}
    for name, source in settings.data.items():
        given = {key: value for key in _PATHS if (value := getattr(source, key)) is not None}
        paths = {key: absolute("data", name, key, value=value) for key, value in given.items()}
        if problems := [problem for problem in paths.values() if isinstance(problem, FileProblem)]:
            broken[name] = problems
        else:
            data[name] = source.model_copy(update=paths)
    own_folder = EvaluationSettings(data=evaluation)
    whole = settings.model_copy(update={"data": data, "models": models, "evaluation": own_folder})
    whole._broken_data = {name: tuple(problems) for name, problems in broken.items()}
    return whole
