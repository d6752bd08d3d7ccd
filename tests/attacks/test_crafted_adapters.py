"""A coordinator that crafts the adapter that training or evaluation starts from.

An adapter that cancels attention and the MLPs leaves a model whose probabilities depend on the token before alone,
which its sender computes for each pair of tokens; so the owner's own trusted base told a completion exactly, and a
PIN of four digits from one evaluation. With rank 1 it worked too.

Now adapter 0 is computed anew from the accepted seed, bit for bit, wherever it comes into play. Later adapters come
from others' rows and cannot be checked: each is used once, for one mean of the floor's rows, and the documentation
says so.
"""

from pathlib import Path

import pytest

from tests.attacks.attacked import Attacked
from tests.attacks.crafted import adapter_of, cancelling, tensors_of
from tests.attacks.hostile import refusal

pytestmark = [pytest.mark.train, pytest.mark.deep]

WIDE = {"rank": 64, "alpha": 64, "target_modules": ["o_proj", "down_proj"]}


def test_an_adapter_that_cancels_the_layers_is_not_taken_for_adapter_0(
    owner: Attacked, model: Path, tmp_path: Path
) -> None:
    campaign = owner.campaign("cancelled", lora=WIDE).begin()
    honest, before = campaign.adapter, len(owner.coordinator.losses())
    file = owner.coordinator.blob(honest)
    campaign.adapter = owner.coordinator.serve(cancelling(file, model, tmp_path))
    for said in (refusal(campaign.train()), refusal(campaign.evaluate(round=0))):
        assert said.startswith("contract-mismatch: adapter 0 is not the one that seed 7 gives (base_model.model.")
        assert "has other values; its SHA-256 is" in said
        assert said.endswith("so nothing was computed from it: the operator can create the campaign anew")
        assert said in owner.printed()
    assert len(owner.coordinator.losses()) == before
    assert owner.totals("cancelled").n_trainings == 1, "booked, and not given back"
    campaign.adapter = honest
    assert refusal(campaign.train()).startswith("contract-mismatch: adapter.sha256: round 1 was begun with ")


@pytest.mark.parametrize("how", ["one bit", "other name for the same values", "negative zero"])
def test_the_smallest_change_of_adapter_0_is_seen(owner: Attacked, tmp_path: Path, how: str) -> None:
    campaign = owner.campaign(f"start-{how.replace(' ', '-')}").begin()
    tensors = tensors_of(owner.coordinator.blob(campaign.adapter), tmp_path)
    first = min(name for name in tensors if "lora_A" in name)
    if how == "one bit":
        tensors[first].view("uint32")[0, 0] ^= 1
    elif how == "negative zero":
        tensors[first.replace("lora_A", "lora_B")] *= -1
    else:
        names = sorted(name for name in tensors if "lora_A" in name and tensors[name].shape == tensors[first].shape)
        tensors[names[0]], tensors[names[1]] = tensors[names[1]], tensors[names[0]]
    campaign.adapter = owner.coordinator.serve(adapter_of(tensors, tmp_path))
    assert refusal(campaign.train()).startswith("contract-mismatch: adapter 0 is not the one that seed 7 gives")


def test_a_start_that_another_campaign_gave_is_the_one_of_the_digest(
    owner: Attacked, model: Path, tmp_path: Path
) -> None:
    """No seed gives it, so all owners compare one digest, and nothing else passes for it."""
    honest = owner.campaign("of-a-seed").begin().adapter
    campaign = owner.campaign("of-a-start", start_from="earlier/final", start_sha256=honest["sha256"])
    prepared = campaign.prepare().result
    assert prepared is not None
    campaign.fingerprint = prepared["fingerprint"]
    campaign.adapter = owner.coordinator.serve(cancelling(owner.coordinator.blob(honest), model, tmp_path))
    assert refusal(campaign.train()).startswith(
        "contract-mismatch: adapter 0 is not the one that the campaign starts from (start_sha256 is "
        f"{honest['sha256']}; its SHA-256 is {campaign.adapter['sha256']})"
    )
    campaign.adapter = honest
    assert campaign.evaluate(round=0).result is not None


def test_a_broadcast_moves_no_adapter_in_round_1_and_is_one_in_each_later_round(owner: Attacked) -> None:
    """What the algorithm sends beside the adapter is subtracted from it in each step: another way to craft it."""
    campaign = owner.campaign("moved", algorithm={"name": "scaffold"}).begin(plain_client=False)
    one, other = (owner.coordinator.serve(bytes([each]) * 100) for each in (1, 2))
    assert refusal(campaign.train(broadcast=one)) == (
        "contract-mismatch: broadcast: round 1 has none, because it starts from the algorithm's initial state"
    )
    assert campaign.train().result is not None
    campaign.adapter = owner.coordinator.serve(owner.coordinator.blob(campaign.adapter))
    assert refusal(campaign.train(round=2, broadcast=one)).startswith("base-model: the broadcast tensors do not fit")
    assert refusal(campaign.train(round=2, broadcast=other)) == (
        f"contract-mismatch: broadcast.sha256: round 2 was begun with {one['sha256'][:12]}…, and not with "
        f"{other['sha256'][:12]}…"
    )
    assert owner.totals("moved").n_trainings == 2
