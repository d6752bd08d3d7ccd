"""Every listing of the API, found in its OpenAPI document, and a coordinator in which each has several items."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

from tests.support.operator import Operator
from tests.support.scripted import ScriptedAgent, adapter_bytes, begin_campaign, campaign_body

Enroll = Callable[..., ScriptedAgent]
_OF_AGENTS = "/v1/agents/me/"


def filled(operator: Operator, enroll: Enroll, folder: Path) -> str:
    """Complete a campaign named "small" of two rounds, verify it twice, and begin another. Returns the first's id."""
    agents = [enroll("ada", site="north"), enroll("bob", site="south")]
    campaign_id = begin_campaign(operator, folder, agents, rounds=2, retention={"updates": 2})
    for fill in (1.0, 2.0):
        for agent in agents:
            agent.train(adapter_bytes(folder, fill))
    operator.wait_for(campaign_id, "completed")
    for number in (1, 2):
        sha256 = operator.get(f"/v1/campaigns/{campaign_id}/adapters/{number}")["blob"]["sha256"]
        gain = {"base": 3.0, "alone": 2.0, "adapter": 1.0}
        told = agents[0].http.put(f"/v1/agents/me/campaigns/{campaign_id}/gains/{sha256}", json=gain)
        assert told.status_code == 204, told.text
    operator.verify(campaign_id, 1)
    operator.verify(campaign_id, 2)
    operator.post("/v1/campaigns", campaign_body(name="other"))
    return campaign_id


def listings(operator: Operator) -> list[str]:
    """The path templates of all listings for operators: the GET operations whose reply is a page."""
    return [path for path in _pages(operator) if not path.startswith(_OF_AGENTS)]


def listings_of_agents(operator: Operator) -> list[str]:
    """The path templates of all listings for agents."""
    return [path for path in _pages(operator) if path.startswith(_OF_AGENTS)]


def _pages(operator: Operator) -> list[str]:
    paths: dict[str, Any] = operator.get("/openapi.json")["paths"]
    return [path for path, operations in paths.items() if _is_page(operations.get("get"))]


def _is_page(operation: dict[str, Any] | None) -> bool:
    if operation is None:
        return False
    schema = operation["responses"]["200"].get("content", {}).get("application/json", {}).get("schema", {})
    return schema.get("$ref", "").startswith("#/components/schemas/Page_")
