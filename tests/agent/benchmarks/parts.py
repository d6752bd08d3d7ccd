"""A campaign with benchmarks, the data of two of them, and a coordinator that hears what an agent offers."""

from pathlib import Path
from typing import Any

from shared.campaign.spec import CampaignSpec
from tests.agent.parts import Home, campaign_spec
from tests.agent.scripted_coordinator import ScriptedCoordinator
from tests.support.processes import wait_until
from tests.support.published import finance

BENCHMARKS = ["fpb_likelihood", "tfns_likelihood", "fiqa"]


def measured_spec(tasks: list[str] = BENCHMARKS, **evaluation: Any) -> CampaignSpec:
    """A campaign of three rounds, with benchmarks of each adapter."""
    return campaign_spec(evaluation={"every": 1, "tasks": tasks, **evaluation})


def write_data(home: Home | Path) -> Path:
    """The data of two benchmarks in an agent's folder: 50 items of ``fpb``, and 6 of ``tfns``."""
    folder = home.folder if isinstance(home, Home) else home
    data = folder / "evaluation-data"
    finance.fpb(data, n=200)
    finance.tfns(data)
    return data


class HearingCoordinator(ScriptedCoordinator):
    """A coordinator that says in which campaigns the agent takes part, and keeps what it offers."""

    def __init__(self, url: str, folder: Path) -> None:
        super().__init__(url, folder)
        self.offers: list[dict[str, Any]] = []
        self.campaigns: list[dict[str, Any]] = []
        self.n_looks = 0

    @property
    def offered(self) -> list[list[str]]:
        """The names of each offer."""
        return [[each["name"] for each in offer["benchmarks"]] for offer in self.offers]

    def looks(self, n: int) -> None:
        """Wait until the agent has looked at its campaigns another *n* times."""
        enough = self.n_looks + n
        wait_until(lambda: self.n_looks >= enough, f"{n} further looks at its campaigns", 20)

    def takes_part(self, spec: CampaignSpec, participant: str = "prepared") -> None:
        """Have the agent's listing name the campaign."""
        counts = {"history": 0, "rounds_closed": 0, "rounds": 3}
        counts |= dict.fromkeys(("n_train", "update_round", "update_weight"))
        about = {"id": "c1", "name": spec.name, "state": "running", "participant": participant}
        self.campaigns = [about | counts]

    def answer(self, method: str, path: str, body: bytes, offset: str) -> tuple[int, Any, dict[str, str]]:
        import json

        if method == "PUT" and path.endswith("/campaigns/c1/benchmarks"):
            self.offers.append(json.loads(body))
            return 204, b"", {}
        if (method, path) == ("GET", "/v1/agents/me/campaigns"):
            self.n_looks += 1
            return 200, {"campaigns": self.campaigns}, {}
        return super().answer(method, path, body, offset)
