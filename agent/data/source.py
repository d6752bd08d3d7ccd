"""Where an owner's data is and how its columns are called: a data table of agent.toml."""

from pathlib import Path
from typing import Annotated, Any, Self

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, PrivateAttr, model_validator

from agent.data.checks import consistency
from agent.data.local_names import LocalName
from agent.data.presets import LOCATION_KEYS, PRESETS
from agent.data.rows import Role
from shared.kinds import Kind

TABLE_SEPARATORS = {".csv": ",", ".tsv": "\t"}
"""The file types of tables of text, each with the separator of its cells."""
_COMPRESSED = (".gz", ".bz2", ".xz")

ColumnName = Annotated[str, Field(min_length=1)]
_ID_LENGTH, _DIGEST_LENGTH = 32, 64


def _campaign_key(key: str) -> str:
    if len(key) not in (_ID_LENGTH, _DIGEST_LENGTH) or not set(key) <= set("0123456789abcdef"):
        message = f"{key} is neither the id of a campaign (32 of 0-9 and a-f) nor its whole digest (64 of them)"
        raise ValueError(message)
    return key


CampaignKey = Annotated[str, AfterValidator(_campaign_key)]
"""The id of a campaign, or its whole digest. The beginning of a digest can be forged."""


def file_type(path: Path) -> str:
    """Return the suffix that names a file's type, beneath that of a compression."""
    suffix = path.suffix.lower()
    return Path(path.stem).suffix.lower() if suffix in _COMPRESSED else suffix


def name_without_type(name: str) -> str:
    """Return the name of a file without the suffixes of its compression and its type."""
    path = Path(name)
    return Path(path.stem).stem if path.suffix.lower() in _COMPRESSED else path.stem


def _may_be_table(path: Path) -> bool:
    return file_type(path) in (*TABLE_SEPARATORS, "")  # a name without a type may be a folder's


class DataSource(BaseModel):
    """One data set of the owner: a local file or folder (`path`), or a data set of the hub (`hub`)."""

    model_config = ConfigDict(extra="forbid", frozen=True, use_attribute_docstrings=True)

    preset: str | None = None
    """A well-known data set, which sets the columns and, without `path`, the hub id. Keys set here override it."""
    path: Path | None = None
    """A file of rows (`.jsonl`, `.json`, `.csv`, `.tsv`, `.parquet`, or text with a `separator`), or a folder of
    such files or of a saved dataset; relative to the settings file. Text may be compressed (`.gz`, `.bz2`, `.xz`)."""
    hub: Annotated[str, Field(min_length=1)] | None = None
    """A data set of the hub, such as `tatsu-lab/alpaca`, instead of `path`."""
    split: Annotated[str, Field(min_length=1)] = "train"
    """Split of a data set of the hub, of a saved dataset, or of a folder whose files or subfolders name their split."""
    revision: Annotated[str, Field(min_length=1)] | None = None
    """Branch, tag or commit of a data set of the hub."""
    separator: Annotated[str, Field(min_length=1)] | None = None
    """Separator of the cells of a `.csv` or `.tsv`. In other text files, where each line is a row, the last separator
    of the line divides `prompt` from `completion`."""
    encoding: str = "utf-8"
    """Encoding of a text file without a byte-order mark; JSON is always UTF-8."""
    header: bool | None = None
    """Whether the first line of a `.csv` or `.tsv` names the columns; default: true, unless `columns` is set."""
    columns: list[ColumnName] | None = None
    """Names of all columns of a `.csv` or `.tsv` without a header, from left to right. The first line is a record."""
    quotes: bool = True
    """Whether the cells of a `.csv` or `.tsv` may stand in double quotes; false: quotes are plain text, the separator
    alone divides the cells, and each line is a record."""
    numbers: bool = False
    """Whether numbers, true and false are read as text, spelled as in the file; otherwise they are errors."""
    prompt: str = "prompt"
    """Column of the prompt: text, or the messages of a conversation that end with it."""
    input: str | None = None
    """Column of further input, which is added below the prompt of rows that have it."""
    completion: str = "completion"
    """Column of the completion: the text that the loss covers."""
    messages: str | None = None
    """Column of a whole conversation, instead of prompt and completion: a list of messages with `role` and `content`,
    or with `from` and `value`. The loss covers each assistant message."""
    system: str | None = None
    """Column of the system prompt, which rows may leave empty; default: `system` or `system_prompt`, if a record has
    such a text. `""` reads none."""
    history: str | None = None
    """Column of the turns before a prompt: a list of `[question, answer]`, or of messages; default: `history`, if a
    record has such a list. `""` reads none."""
    roles: dict[str, Role] = {}
    """Further names of roles in messages, such as `{ Patient = "user" }`: each is `system`, `user` or `assistant`."""
    weight: ColumnName = "weight"
    """Key of a message that takes a reply out of the loss: 0 or false; 1 or true leaves it in."""
    ignore_keys: list[str] = []
    """Keys of messages, such as `tool_calls`, that change what a conversation means and are nevertheless ignored."""
    chosen: str = "chosen"
    """Column of the better completion, for campaigns of kind `dpo`, whose rows are pairs of completions."""
    rejected: str = "rejected"
    """Column of the worse completion, for campaigns of kind `dpo`."""
    other_columns: dict[str, str] = {}
    """Columns that an installed kind of training needs beyond these, by their names in the kind; only those that are
    called otherwise here."""
    unique: str | None = None
    """Column whose values must be unique: rows with a repeated value are skipped."""
    template: Path | None = None
    """The owner's own Jinja chat template, which replaces the campaign's; relative to the settings file."""
    template_may_drop: bool = False
    """Whether a template may drop part of a completion, or change it. Otherwise such rows are errors, because not all
    of the text would be trained on."""
    held_out: Annotated[float, Field(ge=0, lt=1)] = 0.1
    """Fraction of the rows held out for evaluation. A row's own content decides, so added rows do not move others."""
    held_out_path: Path | None = None
    """A file of evaluation rows, instead of a fraction; relative to the settings file."""
    campaigns: list[CampaignKey] | None = None
    """Whole digests of the campaigns that may use this data, or their ids. If it is set, no other campaign gets it,
    whoever accepts it. `accept = "matching"` accepts those whose digest is here; an id alone says nothing of what the
    campaign asks for."""
    kinds: list[str] | None = None
    """Kinds of training that may use this data; default: those of `[policy]`."""
    algorithms: list[str] | None = None
    """Patterns of federated algorithms that may use this data; default: those of `[policy]`."""

    _key: str = PrivateAttr(default="")
    """What stands for the data in all that leaves: its table in agent.toml, and the key of a second file in it."""

    @model_validator(mode="before")
    @classmethod
    def _apply_preset(cls, raw: Any) -> Any:
        if not isinstance(raw, dict) or not isinstance(raw.get("preset"), str):
            return raw
        if raw["preset"] not in PRESETS:
            message = f"preset: unknown preset {raw['preset']!r}; known are {', '.join(PRESETS)}"
            raise ValueError(message)
        preset = PRESETS[raw["preset"]]
        if raw.get("path") or raw.get("hub"):
            preset = {name: value for name, value in preset.items() if name not in LOCATION_KEYS}
        return preset | raw

    @model_validator(mode="after")
    def _check_consistency(self) -> Self:
        problems = list(consistency.problems(self))
        if problems:
            raise ValueError("\n".join(problems))
        return self

    def is_bound_to(self, campaign_id: str, spec_sha256: str) -> bool:
        """Whether the owner names a campaign, by its id or digest, among those that may use this data."""
        # an id is the coordinator's to choose: one of the form of a digest names nothing
        return any(key == (spec_sha256 if len(key) == _DIGEST_LENGTH else campaign_id) for key in self.campaigns or ())

    @property
    def may_be_table(self) -> bool:
        """Whether a path of the data may name tables of text, CSV or TSV: a folder of files can hold them."""
        return any(_may_be_table(path) for path in (self.path, self.held_out_path) if path is not None)

    @property
    def label(self) -> str:
        """The name of the data in messages: of its file on the owner's screen, of its table in all that leaves."""
        shown = self.path.name if self.path is not None else str(self.hub)
        return LocalName(shown, self._key or "the data")

    def named(self, name: str) -> Self:
        """Return the source with its name in agent.toml, which messages to the operator have."""
        return self._with_key(f"data.{name}")

    def _with_key(self, key: str) -> Self:
        copy = self.model_copy()
        copy._key = key
        return copy

    def at(self, path: Path) -> Self:
        """Return a source with the same columns for another file. One that is no table names its columns itself."""
        located: dict[str, Any] = {"path": path, "hub": None, "revision": None}
        if not _may_be_table(path):
            located |= {"header": None, "columns": None, "quotes": True}
        return self.model_copy(update=located)

    @property
    def held_out_source(self) -> Self | None:
        """The owner's file of evaluation rows, with the same columns; None if there is no such file."""
        if self.held_out_path is None:
            return None
        return self.at(self.held_out_path)._with_key(f"{self._key or 'the data'}.held_out_path")

    def column(self, role: str) -> str:
        """Return the column of a completion or a label, by its name in the kind of training."""
        named = {"completion": self.completion, "chosen": self.chosen, "rejected": self.rejected}
        return (named | self.other_columns).get(role, role)

    def needed_columns(self, kind: Kind) -> dict[str, str]:
        """Return the columns that a record must have for a kind of training, by role: "prompt", "completion", …"""
        if kind.compares:
            roles = {"prompt": self.messages or self.prompt}
        elif self.messages is not None:
            return {"messages": self.messages} | {name: self.column(name) for name in kind.labels}
        else:
            roles = {"prompt": self.prompt}
        return roles | {name: self.column(name) for name in (*kind.completions, *kind.labels)}
