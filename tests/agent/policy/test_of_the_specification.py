"""What the policy allows and refuses of a specification alone, each key at its edge, before anything is read."""

from typing import Any

import pytest

from agent.configuration.open_policy import OPEN_POLICY, opened
from agent.configuration.policy import PolicySettings
from agent.configuration.settings import AgentSettings, ComputeSettings
from agent.policy.campaign_rules import campaign_refusals
from shared.campaign.spec import LoraSection
from tests.agent.parts import campaign_spec


def refusals(policy: dict[str, Any], *, mixes_ranks: bool = False, **spec: Any) -> list[str]:
    """What a policy that is open but for some keys says. spec: changes of the specification."""
    compute = {"max_lora_rank": spec.pop("max_lora_rank", None)}
    models = spec.pop("models", {})
    settings = AgentSettings.model_validate({"compute": compute, "models": models})
    settings = settings.model_copy(update={"policy": opened(PolicySettings.model_validate(policy))})
    return [str(each) for each in campaign_refusals(settings, campaign_spec(**spec), mixes_ranks=mixes_ranks)]


def of_training(**changes: Any) -> dict[str, Any]:
    return {"training": {"steps": 5, "batch_size": 2, "max_length": 64, **changes}}


def of_selection(**changes: Any) -> dict[str, Any]:
    return {"selection": {"minimum": 3, **changes}}


@pytest.mark.parametrize(
    ("policy", "spec", "says"),
    [
        ({"kinds": ["sft"]}, {"kind": "dpo"}, 'the kind of training is dpo, and policy.kinds = ["sft"]'),
        ({"kinds": []}, {}, "the kind of training is sft, and policy.kinds = []"),
        (
            {"algorithms": ["fedprox", "Fedavg"]},
            {},
            'the algorithm is fedavg, and policy.algorithms = ["fedprox", "Fedavg"]',
        ),
        ({"batch_size": [3, 8]}, of_training(batch_size=2), "training.batch_size is 2, and policy.batch_size = [3, 8]"),
        ({"batch_size": [3, 8]}, of_training(batch_size=9), "training.batch_size is 9, and policy.batch_size = [3, 8]"),
        (
            {"max_length": [64, 128]},
            of_training(max_length=63),
            "training.max_length is 63, and policy.max_length = [64, 128]",
        ),
        (
            {"max_length": [64, 128]},
            of_training(max_length=129),
            "training.max_length is 129, and policy.max_length = [64, 128]",
        ),
        ({"rank": [2, 4]}, {"lora": {"rank": 1}}, "lora.rank is 1, and policy.rank = [2, 4]"),
        ({"rank": [2, 4]}, {"lora": {"rank": 5}}, "lora.rank is 5, and policy.rank = [2, 4]"),
        (
            {"min_rows": 11},
            {},
            "an update would stand on 10 distinct rows, and policy.min_rows = 11 "
            "(raise training.steps or training.batch_size)",
        ),
        ({"max_rows_per_task": 9}, {}, "a round uses 10 rows, and policy.max_rows_per_task = 9"),
        ({"max_steps": 4}, {}, "a round has 5 steps, and policy.max_steps = 4"),
        ({"max_rounds": 2}, {}, "rounds is 3, and policy.max_rounds = 2"),
        (
            {"retention_updates": 1},
            {"retention": {"updates": 2}},
            "retention.updates is 2: the coordinator would keep each update for that long, and "
            "policy.retention_updates = 1",
        ),
        (
            {"min_participants": 4},
            of_selection(),
            "selection.minimum is 3, so the campaign may start with so few clients, and policy.min_participants = 4 "
            "(set selection.minimum to 4 or more)",
        ),
        (
            {"min_participants": 5},
            of_selection(clients_per_round=4),
            "selection.minimum is 3, so the campaign may start with so few clients, and policy.min_participants = 5 "
            "(set selection.minimum to 4 or more)",
        ),
        (
            {"min_in_round": 4},
            of_selection(),
            "selection.minimum is 3, so a round may close with so few updates, and policy.min_in_round = 4 "
            "(set selection.minimum to 4 or more)",
        ),
    ],
)
def test_just_beyond_the_edge_is_refused_with_the_key_and_its_value(
    policy: dict[str, Any], spec: dict[str, Any], says: str
) -> None:
    assert refusals(policy, **spec) == [says]


@pytest.mark.parametrize(
    ("policy", "spec"),
    [
        ({"kinds": ["sft", "dpo"]}, {"kind": "dpo"}),
        ({"kinds": ["sft"]}, {}),
        ({"algorithms": ["fed*"]}, {}),
        ({"algorithms": ["fedavg"]}, {}),
        ({"batch_size": [2, 2]}, {}),
        ({"max_length": [64, 64]}, {}),
        ({"rank": [2, 2]}, {}),
        ({"min_rows": 10}, {}),
        ({"max_rows_per_task": 10}, {}),
        ({"max_steps": 5}, {}),
        ({"max_rounds": 3}, {}),
        ({"retention_updates": 2}, {"retention": {"updates": 2}}),
        ({"retention_updates": 0}, {}),
        ({"min_participants": 3, "min_in_round": 3}, of_selection()),
        ({"min_participants": 3}, of_selection(clients_per_round=3)),
        ({"min_participants": 5}, of_selection(clients_per_round=3)),
        ({"max_steps": 1, "min_rows": 10**6, "max_rows_per_task": 1}, {"training": {"epochs": 1}}),
    ],
)
def test_the_edge_itself_is_allowed(policy: dict[str, Any], spec: dict[str, Any]) -> None:
    """Amounts by epochs are known once the rows are counted."""
    assert refusals(policy, **spec) == []


def test_everything_that_is_refused_is_named_at_once() -> None:
    policy = {"kinds": [], "algorithms": [], "rank": [8, 8], "max_rounds": 1, "base_models": [], "min_rows": 11}
    keys = [line.split("policy.")[1].split(" =")[0] for line in refusals(policy)]
    assert keys == ["base_models", "kinds", "algorithms", "rank", "min_rows", "max_rounds"]


@pytest.mark.parametrize("patterns", [["*"], ["tiny"], ["t?ny"], ["org/*", "ti*"]])
def test_a_base_model_that_a_pattern_names_is_allowed(patterns: list[str]) -> None:
    assert refusals({"base_models": patterns}) == []


@pytest.mark.parametrize("patterns", [[], ["Tiny"], ["tin"], ["org/*"]])
def test_another_base_model_is_refused_with_what_to_do(patterns: list[str]) -> None:
    [said] = refusals({"base_models": patterns})
    assert said.startswith("the base model is tiny, and policy.base_models = [")
    assert said.endswith('to allow it, add it there, or map it to a folder in [models]: "tiny" = ...)')
    assert refusals({"base_models": patterns}, models={"tiny": "/models/tiny"}) == []


@pytest.mark.parametrize(
    ("rank", "largest", "mixes", "says"),
    [
        (8, 4, False, "lora.rank is 8, and compute.max_lora_rank = 4 (ask for a smaller lora.rank or"),
        (8, 4, True, None),
        (4, 4, False, None),
        (8, None, False, None),
    ],
)
def test_a_rank_that_the_machine_does_not_train(rank: int, largest: int | None, mixes: bool, says: str | None) -> None:
    said = refusals({}, lora={"rank": rank}, max_lora_rank=largest, mixes_ranks=mixes)
    assert len(said) == (says is not None)
    assert says is None or said[0].startswith(says)


@pytest.mark.parametrize(("maximum", "rank"), [(None, 8), (4, 4), (8, 8), (64, 8)])
def test_the_rank_is_the_campaigns_up_to_the_machines(maximum: int | None, rank: int) -> None:
    assert ComputeSettings(max_lora_rank=maximum).rank_of(LoraSection(rank=8)) == rank


@pytest.mark.parametrize(
    "changes",
    [{}, {"kind": "dpo"}, of_selection(minimum=1), {"retention": {"updates": 100}}, of_training(steps=1, batch_size=1)],
)
def test_the_open_policy_refuses_nothing(changes: dict[str, Any]) -> None:
    settings = AgentSettings(policy=OPEN_POLICY)
    assert campaign_refusals(settings, campaign_spec(**changes)) == []
