"""What agents of the tests' own read of the chain of a campaign, as a careful agent would."""

from typing import Any

from agent.signing.standing import Standing
from shared.signing.keys import is_signed
from shared.signing.statements import Statement, statement_of
from tests.support.scripted import ScriptedAgent


def signed_of(agent: ScriptedAgent, campaign_id: str, since: int = 0) -> list[dict[str, Any]]:
    """The statements of a campaign from a number on, each with key and signature."""
    found: list[dict[str, Any]] = []
    has_more = True
    while has_more:
        reply = agent.http.get(f"/v1/agents/me/campaigns/{campaign_id}/statements?since={since + len(found)}")
        assert reply.status_code == 200, reply.text
        found += reply.json()["statements"]
        has_more = reply.json()["has_more"]
    return found


def told(agent: ScriptedAgent, campaign_id: str) -> tuple[Standing, list[Statement]]:
    """What an agent makes of the whole chain: each signature and each place is checked."""
    found = signed_of(agent, campaign_id)
    keys = agent.http.get("/v1/signing-keys").json()
    assert all(each["key"] == keys["current"] for each in found)
    assert all(is_signed(each["text"], each["signature"], each["key"]) for each in found)
    texts = [each["text"] for each in found]
    return Standing.of(campaign_id, texts), [statement_of(text) for text in texts]
