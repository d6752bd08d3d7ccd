"""A coordinator with full storage: agents are informed, wait, and continue once there is space."""

from pathlib import Path
from types import SimpleNamespace

import pytest
from sqlalchemy import text

from tests.support.operator import Operator
from tests.support.processes import QuickAgent, ended
from tests.support.scripted import campaign_body
from tests.support.server import quick_settings, running_coordinator

pytestmark = pytest.mark.fault


def test_agents_wait_while_the_database_is_full_and_go_on(data_dir: Path, tmp_path: Path) -> None:
    with running_coordinator(quick_settings(data_dir, None, "database")) as running:

        async def limit(n_pages: int) -> None:
            async with running.services.database.write("test") as session:
                await session.execute(text(f"PRAGMA max_page_count={n_pages}"))

        operator = Operator(running.url, running.key)
        place = SimpleNamespace(url=running.url, operator=operator)
        ada = QuickAgent.recorded_one(place, tmp_path, "ada", size=100_000)
        with ended(ada):
            body = campaign_body(rounds=2, selection={"minimum": 1})
            campaign_id = operator.post("/v1/campaigns", body)["id"]
            operator.wait_until(lambda: operator.items(f"/v1/campaigns/{campaign_id}/tasks"), bool)
            running.run(limit(1))  # SQLite raises the limit to the current number of pages, and allows no more
            ada.start()
            ada.process.wait_to_print("storage is full; nothing was lost.*trying again in")
            running.run(limit(1 << 30))
            operator.wait_for(campaign_id, "completed")
            assert ada.process.stop() == 0
        adapters = operator.items(f"/v1/campaigns/{campaign_id}/adapters")
    assert [len(each["contributions"]) for each in adapters] == [0, 1, 1]
