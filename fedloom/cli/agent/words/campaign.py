"""A campaign in plain words for its owner: who asks for what, what leaves, and what others could learn from it."""

from collections.abc import Iterator
from typing import TYPE_CHECKING

from fedloom.cli import output
from fedloom.cli.agent.words.common import COULD_LEARN, LIMITS_PROVE_NOTHING, REPORTS
from fedloom.cli.agent.words.training import training_in_words
from fedloom.precision import precision_in_words
from shared.text.plain_text import quoted

if TYPE_CHECKING:
    from rich.table import Table

    from agent.configuration.policy import PolicySettings
    from agent.record.campaigns import KnownCampaign
    from shared.campaign.spec import CampaignSpec

_NAMES_SHOWN = 10
_HEX = frozenset("0123456789abcdef")
LEARN = (
    f"{COULD_LEARN} With few participants averaging hides little, and others who work together can subtract their own "
    f"part. {LIMITS_PROVE_NOTHING}, and this campaign has none."
)
"""What an operator could learn, as far as no setting changes it."""


def campaign_table(known: "KnownCampaign", policy: "PolicySettings") -> "Table":
    """A campaign as its owner is asked about it. Texts of others are shown as they are, with escapes."""
    table = output.table("", "", fold=[""])
    table.show_header = False
    for title, words in campaign_in_words(known, policy):
        table.add_row(title, words)
    return table


def campaign_in_words(known: "KnownCampaign", policy: "PolicySettings") -> Iterator[tuple[str, str]]:
    """What the owner of this agent has to know of a campaign: titles, each with a few sentences."""
    spec = known.spec
    yield "campaign", quoted(known.name)
    yield "id", known.id
    yield "digest", known.spec_sha256
    yield "asked by", f"{quoted(known.coordinator)}, {output.ago(known.asked_at)}"
    yield "base model", _model(known)
    if spec.start_from is not None:
        yield "starts from", _start(spec)
    yield "data", _data(known)
    yield from training_in_words(spec)
    yield "work", _work(known)
    yield "leaves", _leaves(spec, policy)
    if spec.evaluation.benchmarks:
        yield "runs here", _runs_here(spec, policy)
    yield "takes part", _company(known)
    yield "could learn", LEARN
    yield "all of it", "fedloom agent campaigns CAMPAIGN --spec prints every field that the digest covers"


def _model(known: "KnownCampaign") -> str:
    base = known.base
    if base.revision is None:
        pinned = ", no revision: NOT PINNED, what is under this name may change"
    elif len(base.revision) == 40 and _HEX.issuperset(base.revision):
        pinned = f", revision {base.revision}"
    else:
        pinned = f", revision {quoted(base.revision)}: NOT PINNED, a branch or a tag may change"
    return f"{quoted(base.model)}{precision_in_words(base)}{pinned}"


def _start(spec: "CampaignSpec") -> str:
    named = f"digest {spec.start_sha256}" if spec.start_sha256 is not None else "WITHOUT A DIGEST"
    return (
        f"an adapter that the coordinator names ({named}); by its word an earlier campaign made it "
        f"({quoted(str(spec.start_from))}). Your agent checks the digest; what is in it CANNOT BE CHECKED, and one "
        "that was made for it lets an update tell more of your rows"
    )


def _data(known: "KnownCampaign") -> str:
    data = known.spec.data
    counted = "the rows are counted once you accept"
    if known.prepared is not None:
        prepared = known.prepared
        counted = (
            f"{prepared.n_train:,} rows to train on, {prepared.n_distinct:,} of them distinct; "
            f"{prepared.n_held_out:,} held out"
        )
    return f"{quoted(data.name)}, template {data.template}; {counted}"


def _work(known: "KnownCampaign") -> str:
    spec = known.spec
    words = f"{spec.rounds} round{'' if spec.rounds == 1 else 's'} of {spec.training.amount} each"
    if known.prepared is not None:
        n_rows = spec.training.steps_for(known.prepared.n_train) * spec.training.batch_size
        passes = spec.rounds * n_rows / max(1, known.prepared.n_train)
        words += f": {n_rows:,} rows a round, {passes:.1f} passes over your rows in all"
    elif spec.training.steps is not None:
        words += f": {spec.training.steps * spec.training.batch_size:,} rows a round"
    return words


def _leaves(spec: "CampaignSpec", policy: "PolicySettings") -> str:
    n = spec.retention.updates
    kept = f"kept for {n} more round{'' if n == 1 else 's'}" if n else "deleted there once the round has closed"
    how = "in float32"
    if spec.wire != "float32":
        how = f"rounded to {spec.wire} together with what rounding took from the one before (coarser, and NOT PRIVATE)"
    return (
        f"in each round an update, computed from your rows, {how}, in the clear to the coordinator, {kept} (backups "
        f"keep it longer); {REPORTS[policy.report]} (policy.report = {policy.report}); numbers of rows and tokens; "
        "digests of the base model's files; texts of failures, which name the data, the line and the column, and quote "
        "no row"
    )


def _runs_here(spec: "CampaignSpec", policy: "PolicySettings") -> str:
    """Which of the campaign's benchmarks the settings let run here."""
    from shared.benchmarks import benchmarks

    names = [name for name in spec.evaluation.benchmarks if name in policy.benchmarks]
    if not names:
        return "none of its benchmarks (policy.suites)"
    code = [name for name in names if benchmarks()[name].runs_code]
    programs = f"; {output.some_of(code, 4)} RUN PROGRAMS THAT THE MODEL WRITES, in a sandbox" if code else ""
    return (
        f"its benchmarks {output.some_of(names, 10)}, where their data is (policy.suites): numbers on public data "
        f"leave, and no row of yours is read{programs}"
    )


def _company(known: "KnownCampaign") -> str:
    terms, selection = known.terms, known.spec.selection
    names = output.some_of(list(map(quoted, terms.participants)), _NAMES_SHOWN)
    unnamed = terms.n_participants - len(terms.participants)
    more = f", and {unnamed:,} that it does not name" if unnamed > 0 else ""
    drawn = selection.clients_per_round
    in_round = "all are drawn for each round" if drawn == "all" else f"{drawn} are drawn for each round"
    return (
        f"by the coordinator's word {terms.n_participants:,} so far: {names}{more}; the campaign begins with "
        f"{selection.minimum} or more, {in_round}, and a round closes with {selection.minimum} or more updates"
    )
