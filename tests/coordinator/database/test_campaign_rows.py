"""Campaign rows: the campaign file is parsed once per row object, and again if it is replaced."""

from datetime import date
from typing import Any

import pytest
from sqlalchemy import update

from coordinator.database.parsed_specs import parsed_spec, parsed_spec_sha256
from coordinator.database.tables import CampaignRow
from shared.campaign.digest import spec_sha256
from shared.campaign.spec import CampaignSpec
from tests.support.operator import Operator
from tests.support.scripted import campaign_body
from tests.support.server import RunningCoordinator


@pytest.fixture
def parses(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """All values that were parsed as a campaign file so far."""
    parsed: list[Any] = []
    validate = CampaignSpec.model_validate

    def counted(value: Any, **options: Any) -> CampaignSpec:
        parsed.append(value)
        return validate(value, **options)

    monkeypatch.setattr(CampaignSpec, "model_validate", counted)
    return parsed


def test_a_campaign_file_is_parsed_once_a_row_and_again_if_it_is_replaced(parses: list[Any]) -> None:
    row = CampaignRow(spec_json=campaign_body())
    assert row.spec is row.spec
    assert row.spec == CampaignSpec(**campaign_body())
    assert len(parses) == 1
    row.spec_json = campaign_body(rounds=7)
    assert row.spec.rounds == 7
    assert row.spec is row.spec
    assert CampaignRow(spec_json=campaign_body(rounds=8)).spec.rounds == 8
    assert len(parses) == 3


def test_a_row_that_is_read_again_has_the_campaign_file_of_the_database(
    coordinator: RunningCoordinator, operator: Operator
) -> None:
    campaign_id = operator.post("/v1/campaigns", campaign_body())["id"]
    database = coordinator.services.database

    async def specs() -> list[CampaignSpec]:
        async with database.read() as session:
            row = await session.get_one(CampaignRow, campaign_id)
            found = [row.spec, row.spec]
        async with database.write("test") as session:
            await session.execute(update(CampaignRow).values(spec_json=campaign_body(rounds=5)))
        async with database.read() as session:
            session.add(row)
            await session.refresh(row)
            return [*found, row.spec, row.spec]

    one, same, two, again = coordinator.run(specs())
    assert (one.rounds, two.rounds) == (1, 5)
    assert one is same
    assert two is again


def test_the_digest_of_a_campaign_file_is_that_of_its_latest_value() -> None:
    day = date(2026, 1, 2)
    one, other = (parsed_spec("c", campaign_body(rounds=rounds)) for rounds in (3, 4))
    found = [
        parsed_spec_sha256("c", spec, on)
        for spec, on in ((one, day), (one, day), (other, day), (other, date(2026, 1, 3)), (one, day))
    ]
    expected = [spec_sha256(spec, on) for spec, on in ((one, day), (other, day), (other, date(2026, 1, 3)))]
    assert found == [expected[0], expected[0], *expected[1:], expected[0]]
    assert len(set(found)) == 3
