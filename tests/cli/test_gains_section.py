"""Who gains and who loses, in the page of a campaign."""

import io
from datetime import UTC, datetime

import pytest
from rich.console import Console

from fedloom.cli.campaign.tables.gains_section import print_gains
from shared.metrics import Weight, losses
from shared.wire.gains import GainView

[LOSS] = [each for each in losses("nats a token", Weight.ROWS) if each.name == "held_out_loss"]


def shown(adapter: float, alone: float) -> list[str]:
    gain = GainView(
        round=8, agent_name="ada", client_number=0, base=0.9, alone=alone, adapter=adapter, at=datetime.now(UTC)
    )
    out = io.StringIO()
    print_gains(Console(file=out, width=80), [gain], LOSS, None)
    return out.getvalue().splitlines()[3].split()


@pytest.mark.parametrize(
    ("adapter", "alone", "words"),
    [
        (0.4, 0.5, "20.0%"),
        (0.6, 0.5, "20.0%"),
        (0.0083, 0.00022, "much"),  # 3,673 % of next to nothing
        (0.0083, 0.0, ""),
    ],
)
def test_how_much_an_owner_gains_or_loses(adapter: float, alone: float, words: str) -> None:
    assert shown(adapter, alone) == ["8", "1", "ada", *words.split()]
