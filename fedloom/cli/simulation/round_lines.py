"""A line for each round of a simulation, with the metrics of that round."""

from rich.console import Console

from fedloom.client import Client
from fedloom.errors import NotFound
from fedloom.measured import Means, benchmark_metrics, means_by_round, values_of_round
from shared.metrics import HELD_OUT_LOSS
from shared.states import CampaignState
from shared.wire.campaigns import CampaignDetail

_BEFORE_ROUNDS = (CampaignState.PREPARING, CampaignState.INITIALIZING)


class RoundLines:
    """Prints a round's line once its evaluation is in, from the last round that is closed at the first call on."""

    def __init__(self, client: Client, console: Console) -> None:
        self._client = client
        self._console = console
        self._next: int | None = None

    def print_new(self, campaign: CampaignDetail) -> None:
        """Print the rounds that are complete. Of a campaign that is over or paused, all that are closed."""
        if self._next is None:
            self._next = campaign.rounds_closed
        first = self._next
        while self._next <= campaign.rounds_closed and not self._is_awaited(campaign, self._next):
            self._next += 1
        if first < self._next:
            means, _ = means_by_round(self._client, campaign.id)  # read last, so that they are complete
            for number in range(first, self._next):
                self._console.print(round_line(campaign, means, number), soft_wrap=True)

    def _is_awaited(self, campaign: CampaignDetail, number: int) -> bool:
        """Whether metrics of a closed round may still come."""
        if campaign.state.is_at_rest:
            return False
        if campaign.state in _BEFORE_ROUNDS:
            return True
        try:
            return self._client.adapter(campaign.id, number).evaluating
        except NotFound:
            return True


def round_line(campaign: CampaignDetail, means: Means, number: int) -> str:
    """The line of a round, with what was to be measured and is not."""
    values = [str(each) for each in values_of_round(campaign, means, number)]
    if campaign.spec.evaluates(number) and number not in means.get(HELD_OUT_LOSS, {}):
        values.append("not evaluated")
    if campaign.spec.benchmarks(number) and all(
        number not in means.get(each.name, {}) for each in benchmark_metrics(campaign)
    ):
        values.append("no benchmark gave a number")
    return f"round {number}/{campaign.rounds}" + (f": {', '.join(values)}" if values else "")
