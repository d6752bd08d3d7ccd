"""The ``[policy]`` table of agent.toml: what the owner accepts, whatever a campaign asks for."""

import difflib
from typing import Annotated, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field

from shared import benchmarks
from shared.metrics import ReportLevel


def _ordered(bounds: tuple[int, int]) -> tuple[int, int]:
    least, most = bounds
    if least > most:
        message = f"the least, {least}, is above the most, {most}"
        raise ValueError(message)
    return bounds


def _known_suites(named: list[str]) -> list[str]:
    known = [*benchmarks.suites(), *benchmarks.benchmarks()]
    for name in named:
        if name not in known and name != "*":
            close = difflib.get_close_matches(name, known, n=1)
            hint = f"did you mean {close[0]!r}?" if close else "`fedloom evaluate --list` names all"
            message = f"there is no suite and no benchmark {name!r}; {hint}"
            raise ValueError(message)
    return named


Range = Annotated[tuple[Annotated[int, Field(ge=1)], Annotated[int, Field(ge=1)]], AfterValidator(_ordered)]
"""The least and the most that is accepted."""
Limit = Annotated[int, Field(ge=1)] | None


class PolicySettings(BaseModel):
    """What the owner accepts, whatever a campaign asks for. `*` in a pattern matches any text."""

    model_config = ConfigDict(extra="forbid", frozen=True, use_attribute_docstrings=True)

    accept: Literal["ask", "matching", "any"] = "ask"
    """Who accepts a campaign. `ask`: you, by hand, each one once. `matching`: the agent, if nothing here refuses it and
    `campaigns` in `[data.NAME]` has its whole digest. `any`: the agent, all that nothing here refuses. Neither accepts
    what you refused, paused, left or had forgotten, whatever it has become since."""
    base_models: list[str] = []
    """Patterns of base models. Those named in `[models]` are always accepted."""
    kinds: list[str] = ["sft", "dpo"]
    """Kinds of training."""
    algorithms: list[str] = ["*"]
    """Patterns of federated algorithms."""
    min_rows: Annotated[int, Field(ge=1)] = 40
    """Fewest distinct rows behind an update."""
    min_held_out: Annotated[int, Field(ge=1)] = 20
    """Fewest rows behind a held-out metric that leaves."""
    batch_size: Range = (8, 512)
    """Least and most rows of an optimizer step."""
    max_length: Range = (64, 8192)
    """Least and most tokens of a row after cutting."""
    rank: Range = (1, 64)
    """Least and most rank of an adapter."""
    max_rows_per_task: Limit = None
    """Most rows that one training may use, each counted as often as it is used; default: no limit."""
    max_epochs: Annotated[float, Field(gt=0)] | None = 10.0
    """Most passes over the data in one campaign, rounds that were rolled back included."""
    max_steps: Limit = None
    """Most optimizer steps a round; default: no limit."""
    max_rounds: Limit = 1000
    """Most rounds of a campaign, and most trainings for it, those of rounds that were rolled back included. It bounds
    evaluations too, one for each adapter."""
    max_rollbacks: Annotated[int, Field(ge=0)] = 3
    """Most rollbacks of a campaign, and restores of its coordinator, that are followed: after each, rounds are trained
    and adapters evaluated again."""
    min_participants: Annotated[int, Field(ge=1)] = 3
    """Fewest clients of a campaign, this one included, by the coordinator's word."""
    min_in_round: Annotated[int, Field(ge=1)] = 2
    """Fewest updates that are averaged in a round."""
    max_campaigns: Limit = 3
    """Most campaigns in 30 days that use the same rows."""
    report: ReportLevel = "round"
    """What leaves of losses and other metrics. `none`: nothing but the number of steps, and no evaluation. `round`:
    means with three significant digits, once a round and once an adapter. `live`: everything, in full, those of single
    steps as well. This terminal shows all of it in any case."""
    report_gain: bool = False
    """Whether `fedloom agent report` tells the operator what you gain: of each adapter in it three numbers leave, with
    three significant digits: the held-out loss of the base model, of the model trained alone, and of the adapter. Never
    with fewer than `min_held_out` rows, and nothing with `report = "none"`."""
    hold_updates: bool = False
    """Whether a finished update stays here until you let it go: `fedloom agent release CAMPAIGN`."""
    hold_updates_s: Annotated[float, Field(gt=0, le=31_536_000)] | None = None
    """Seconds after which a held update goes by itself, counted from the end of its training. A number alone holds
    updates as well. Default: only you let them go."""
    retention_updates: Annotated[int, Field(ge=0)] = 0
    """Most rounds for which the coordinator may keep this agent's updates (`retention.updates`)."""
    max_download_bytes: Annotated[int, Field(ge=0)] = 4 << 30
    """Most bytes of adapters and other tensors that one task may download."""
    remote_code: bool = False
    """Whether code that comes with a base model may run here."""
    suites: Annotated[list[str], AfterValidator(_known_suites)] = []
    """Public benchmarks that accepted campaigns may have run here on their adapters, by suite (`finance`) or singly
    (`gsm8k`); `*` names all. They read no row of yours and only numbers on public data leave, but each adapter costs
    compute. Suites with code (`code`, `paper`) run programs that the model writes, in a sandbox (bubblewrap) and never
    without one. Their data is in the folder that `[evaluation]` names."""

    @property
    def benchmarks(self) -> frozenset[str]:
        """The public benchmarks that campaigns may have run here."""
        return benchmarks.named_by(self.suites)

    @property
    def holds(self) -> bool:
        """Whether finished updates are held."""
        return self.hold_updates or self.hold_updates_s is not None
