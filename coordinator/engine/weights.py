"""Weights of the clients, by the numbers of rows that they declare, and what the operator is told about them.

A client's number of rows cannot be checked, and it gives the client weight. So a campaign can cap it
(``weighting.max_examples``), and a client that outweighs all others is named, as is one whose part changes.
"""

from collections.abc import Mapping

from sqlalchemy import update

from coordinator.database.prepared import Prepared, given, given_each
from coordinator.database.tables import ParticipantRow
from coordinator.engine.campaign_tx import CampaignTx
from coordinator.engine.participants import Client
from shared.campaign.spec import CampaignSpec
from shared.events import EventType

NOTABLE = 0.1
"""Change of a client's part of the weight that is recorded."""
MOST = 0.5
"""Part of the weight above which a client outweighs all others together. Of two clients, one always may."""
_FEWEST = 3
_STORE = Prepared(
    update(ParticipantRow)
    .where(ParticipantRow.campaign_id == given("campaign"), ParticipantRow.agent_id == given("agent"))
    .values(given_each("weight_share"))
)


def weight_of(spec: CampaignSpec, client: Client) -> int:
    """A client's weight before normalisation: its number of training rows, capped, or 1."""
    n_examples = client.n_train or 0
    if spec.weighting.by == "uniform":
        return 1
    return min(n_examples, spec.weighting.max_examples) if spec.weighting.max_examples else n_examples


async def record_shares(tx: CampaignTx, round_number: int, clients: Mapping[int, Client]) -> None:
    """Record whose part of the weight has changed as a round opens, and who outweighs all others.

    clients: those that can be drawn. Their parts are stored as they were last recorded.
    """
    shares = _shares(tx.spec, clients)
    n_before = sum(client.weight_share is not None for client in clients.values())
    changed: dict[str, float] = {}
    for number, client in clients.items():
        before, after = client.weight_share, shares[number]
        has_changed = round_number > 1 and abs(after - (before or 0.0)) >= NOTABLE
        if has_changed:
            tx.record(
                EventType.CLIENT_WEIGHT_CHANGED,
                agent=client.agent_name,
                round=round_number,
                before=before or 0.0,
                after=after,
            )
        outweighs = _outweighs(after, len(clients))
        if outweighs and not _outweighs(before or 0.0, n_before):
            tx.record(
                EventType.CLIENT_OUTWEIGHS,
                agent=client.agent_name,
                round=round_number,
                rows=client.n_train,
                share=after,
            )
        if before is None or has_changed or outweighs != _outweighs(before, n_before):
            changed[client.agent_id] = after
    if changed:
        of_campaign = {"campaign": tx.campaign.id}
        rows = [{**of_campaign, "agent": agent_id, "weight_share": share} for agent_id, share in changed.items()]
        await _STORE.run_each(tx.session, rows)


def notices(spec: CampaignSpec, clients: Mapping[int, Client]) -> dict[str, str]:
    """What the operator should know about the clients' weights, by agent id."""
    return {
        client.agent_id: f"declared {client.n_train:,} rows: {_percent(share)} of the weight ({_remedy(spec)})"
        for client, share in zip(clients.values(), _shares(spec, clients).values(), strict=True)
        if _outweighs(share, len(clients))
    }


def _shares(spec: CampaignSpec, clients: Mapping[int, Client]) -> dict[int, float]:
    """Each client's part of the weight of them all, by client number."""
    weights = {number: weight_of(spec, client) for number, client in clients.items()}
    total = sum(weights.values())
    return {number: weight / total for number, weight in weights.items()}


def _outweighs(share: float, n_clients: int) -> bool:
    return share > MOST and n_clients >= _FEWEST


def _percent(share: float) -> str:
    """A share, never rounded up to the whole."""
    return f"{min(share * 100, 99.9):.1f}%"


def _remedy(spec: CampaignSpec) -> str:
    capped = spec.weighting.max_examples
    return f"weighting.max_examples is {capped:,}" if capped else "weighting.max_examples would cap it"
