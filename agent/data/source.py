"""Where an owner's data is and how its columns are called: a data table of agent.toml."""

import codecs
from pathlib import Path
from typing import Annotated, Any, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

from agent.data.presets import LOCATION_KEYS, PRESETS
from shared.kinds import Kind


class DataSource(BaseModel):
    """One data set of the owner: a local file or folder (`path`), or a data set of the hub (`hub`)."""

    model_config = ConfigDict(extra="forbid", frozen=True, use_attribute_docstrings=True)

    preset: str | None = None
    """A well-known data set, which sets the columns and, without `path`, the hub id. Keys set here override it."""
    path: Path | None = None
    """A file of rows (`.jsonl`, `.json`, `.csv`, `.tsv`, `.parquet`, or text with a `separator`), or the folder of a
    saved dataset; relative to the settings file. Text files may be compressed (`.gz`, `.bz2`, `.xz`)."""
    hub: Annotated[str, Field(min_length=1)] | None = None
    """A data set of the hub, such as `tatsu-lab/alpaca`, instead of `path`."""
    split: Annotated[str, Field(min_length=1)] = "train"
    """Split of a data set of the hub or of a saved dataset."""
    revision: Annotated[str, Field(min_length=1)] | None = None
    """Branch, tag or commit of a data set of the hub."""
    separator: Annotated[str, Field(min_length=1)] | None = None
    """Separator of the cells of a `.csv` or `.tsv`. In other text files, where each line is a row, the last separator
    of the line divides `prompt` from `completion`."""
    encoding: str = "utf-8"
    """Encoding of a text file; JSON is always UTF-8."""
    prompt: str = "prompt"
    """Column of the prompt: text, or the messages of a conversation that end with it."""
    input: str | None = None
    """Column of further input, which is added below the prompt of rows that have it."""
    completion: str = "completion"
    """Column of the completion: the text that the loss covers."""
    messages: str | None = None
    """Column of a whole conversation, instead of prompt and completion: a list of messages with `role` and `content`,
    or with `from` and `value`. The loss covers each assistant message."""
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

    @model_validator(mode="before")
    @classmethod
    def _apply_preset(cls, raw: Any) -> Any:
        if not isinstance(raw, dict) or not isinstance(raw.get("preset"), str):
            return raw
        if raw["preset"] not in PRESETS:
            message = f"unknown preset {raw['preset']!r}; known are {', '.join(PRESETS)}"
            raise ValueError(message)
        preset = PRESETS[raw["preset"]]
        if raw.get("path") or raw.get("hub"):
            preset = {name: value for name, value in preset.items() if name not in LOCATION_KEYS}
        return preset | raw

    @model_validator(mode="after")
    def _check_location_and_encoding(self) -> Self:
        if (self.path is None) == (self.hub is None):
            message = "set either path or hub, or a preset"
            raise ValueError(message)
        try:
            codecs.lookup(self.encoding)
        except LookupError as error:
            message = f"encoding: unknown encoding {self.encoding!r}; use a name such as utf-8 or latin-1"
            raise ValueError(message) from error
        return self

    @property
    def label(self) -> str:
        """The name of the data in messages."""
        return self.path.name if self.path is not None else str(self.hub)

    def at(self, path: Path) -> Self:
        """Return a source with the same columns for another file."""
        return self.model_copy(update={"path": path, "hub": None, "revision": None})

    @property
    def held_out_source(self) -> Self | None:
        """The owner's file of evaluation rows, with the same columns; None if there is no such file."""
        return self.at(self.held_out_path) if self.held_out_path is not None else None

    def column(self, role: str) -> str:
        """Return the column of a completion or a label, by its name in the kind of training."""
        named = {"completion": self.completion, "chosen": self.chosen, "rejected": self.rejected}
        return (named | self.other_columns).get(role, role)

    def columns(self, kind: Kind) -> dict[str, str]:
        """Return the columns that a record must have for a kind of training, by role: "prompt", "completion", …"""
        if kind.compares:
            roles = {"prompt": self.messages or self.prompt}
        elif self.messages is not None:
            return {"messages": self.messages} | {name: self.column(name) for name in kind.labels}
        else:
            roles = {"prompt": self.prompt}
        return roles | {name: self.column(name) for name in (*kind.completions, *kind.labels)}
