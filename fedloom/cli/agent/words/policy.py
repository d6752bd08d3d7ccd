"""An owner's settings in plain words: what they let in, what they let out, and what others could learn from it."""

from collections.abc import Iterator
from typing import TYPE_CHECKING

from fedloom.cli import output
from fedloom.cli.agent.words.common import COULD_LEARN, LIMITS_PROVE_NOTHING, REPORTS

if TYPE_CHECKING:
    from agent.configuration.policy import PolicySettings
    from agent.configuration.settings import AgentSettings

_ACCEPTS = {
    "ask": "you, each campaign once, by the digest of all that it says",
    "matching": "the agent: whatever nothing here refuses, if its data names its whole digest",
    "any": "the agent: whatever nothing here refuses, WITHOUT ASKING YOU",
}


def policy_in_words(settings: "AgentSettings") -> Iterator[tuple[str, str]]:
    """What the settings mean: titles, each with a few sentences. Each names its keys of ``[policy]``."""
    policy = settings.policy
    yield "who accepts", f"{_ACCEPTS[policy.accept]} (accept)"
    yield "base models", _models(settings)
    yield "what runs", _runs(policy)
    yield "trained by", _trainer(settings)
    yield "behind an update", _behind(policy)
    yield "in one campaign", _most(policy)
    yield "in company", _company(policy)
    yield (
        "losses",
        f"{REPORTS[policy.report]} (report); of at least {policy.min_held_out} held-out rows (min_held_out)",
    )
    yield "benchmarks", _benchmarks(settings)
    yield "gains", _gains(policy)
    yield "updates", _updates(policy)
    yield (
        "always leaves",
        (
            "names and versions, numbers of rows, digests of the base model, when and how long the agent works, and "
            "the update of each round, in the clear to the coordinator"
        ),
    )
    yield "could learn", _could_learn(policy)


def _models(settings: "AgentSettings") -> str:
    patterns, own = settings.policy.base_models, sorted(settings.models)
    words = [f"those in [models]: {output.some_of(own, 5)}"] if own else []
    words += [f"those of the hub that match {', '.join(patterns)} (base_models)"] if patterns else []
    code = "; code that comes with a model MAY RUN here (remote_code)" if settings.policy.remote_code else ""
    return ("; ".join(words) or "NONE: name one in [models] or in base_models, or every campaign is refused") + code


def _benchmarks(settings: "AgentSettings") -> str:
    from shared.benchmarks import benchmarks

    policy = settings.policy
    if not policy.suites:
        return "none run here (suites)"
    of_code = sorted(name for name in policy.benchmarks if benchmarks()[name].runs_code)
    code = f"; {output.some_of(of_code, 4)} RUN PROGRAMS THAT THE MODEL WRITES, in a sandbox only" if of_code else ""
    return (
        f"accepted campaigns may have {', '.join(policy.suites)} run here (suites), on public data in "
        f"{settings.evaluation.data} ([evaluation]); they read no row of yours, and their numbers leave{code}"
    )


def _runs(policy: "PolicySettings") -> str:
    return f"kinds {', '.join(policy.kinds)} (kinds); algorithms {', '.join(policy.algorithms)} (algorithms)"


def _trainer(settings: "AgentSettings") -> str:
    from agent.configuration.trainers import OWN, trainer_identity

    compute = settings.compute
    words = "Fedloom's own trainer ([compute] trainer)"
    if compute.trainer != OWN:
        words = (
            f"{trainer_identity(compute.trainer)}, A TRAINER OF YOUR OWN, whose code sees your rows ([compute] "
            "trainer); with each base its results are first compared with Fedloom's own, and its name leaves"
        )
    kernels = "; libraries MAY FETCH COMPILED CODE from the hub and run it ([compute] hub_kernels)"
    return words + (kernels if compute.hub_kernels else "")


def _behind(policy: "PolicySettings") -> str:
    least, most = policy.batch_size
    shortest, longest = policy.max_length
    lowest, highest = policy.rank
    return (
        f"at least {policy.min_rows} distinct rows (min_rows), steps of {least} to {most} rows (batch_size), rows cut "
        f"at {shortest} to {longest} tokens (max_length), an adapter of rank {lowest} to {highest} (rank)"
    )


def _most(policy: "PolicySettings") -> str:
    limits = {
        "max_epochs": (policy.max_epochs, "passes over the rows"),
        "max_rounds": (policy.max_rounds, "trainings"),
        "max_steps": (policy.max_steps, "steps a round"),
        "max_rows_per_task": (policy.max_rows_per_task, "rows a round"),
        "max_rollbacks": (policy.max_rollbacks, "rollbacks, after which rounds are trained again"),
    }
    set_ones = [f"at most {value:g} {unit} ({key})" for key, (value, unit) in limits.items() if value is not None]
    unset = [key for key, (value, _) in limits.items() if value is None]
    if policy.max_campaigns is not None:
        set_ones.append(f"{policy.max_campaigns} campaigns in 30 days on the same rows (max_campaigns)")
    else:
        unset.append("max_campaigns")
    return "; ".join(set_ones + ([f"NO LIMIT by {', '.join(unset)}"] if unset else []))


def _company(policy: "PolicySettings") -> str:
    return (
        f"at least {policy.min_participants} clients in a campaign (min_participants) and {policy.min_in_round} in a "
        "round (min_in_round), as the coordinator counts them: it makes the enrolments, so it can invent them"
    )


def _gains(policy: "PolicySettings") -> str:
    if not policy.report_gain:
        return "what `fedloom agent report` finds stays here (report_gain)"
    if policy.report == "none":
        return 'stay here, since report is "none" (report_gain)'
    return (
        "`fedloom agent report` TELLS THE OPERATOR three losses of each adapter, with three digits: of the base model, "
        f"of the model trained alone, of the adapter (report_gain); of at least {policy.min_held_out} held-out rows"
    )


def _updates(policy: "PolicySettings") -> str:
    n = policy.retention_updates
    kept = f"for {n} more rounds at most" if n else "until its round has closed, and no longer"
    by_coordinator = f"the coordinator may keep an update {kept} (retention_updates); its backups keep what they hold"
    return f"{_holding(policy)}; {by_coordinator}"


def _holding(policy: "PolicySettings") -> str:
    if policy.hold_updates_s is not None:
        return (
            f"held here until you let them go, or for {output.duration(policy.hold_updates_s)} (hold_updates_s), after "
            "which they GO BY THEMSELVES"
        )
    if policy.hold_updates:
        return "held here until you let them go (hold_updates)"
    return "sent as soon as they are finished (hold_updates, hold_updates_s)"


def _could_learn(policy: "PolicySettings") -> str:
    words = [f"{COULD_LEARN} {LIMITS_PROVE_NOTHING}."]
    if policy.min_rows < 8 or policy.batch_size[0] < 4:
        words.append(
            "With so few rows behind an update or a step (min_rows, batch_size), single rows can be READ from it."
        )
    if policy.report == "live":
        words.append("With the loss of each step (report), a row's text can be read by comparing losses.")
    if policy.min_participants < 3 or policy.min_in_round < 2:
        words.append("With so few participants (min_participants, min_in_round) averaging hides nothing.")
    if policy.accept == "any":
        words.append("Any campaign starts at once (accept), as often as the limits allow.")
    return " ".join(words)
