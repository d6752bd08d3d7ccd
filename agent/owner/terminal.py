"""What an agent needs of a terminal at which its owner sits. The command line has one; a service has none."""

from collections.abc import Callable
from typing import Protocol

from agent.record.campaigns import KnownCampaign
from agent.workspace import Workspace


class OwnersTerminal(Protocol):
    """Asks the owner about campaigns, beside all other work."""

    def attend(self, workspace: Workspace, on_decision: Callable[[], object]) -> None:
        """Begin to ask.

        Args:
            workspace: the home folder, with the record and the settings.
            on_decision: called, in any thread, once a decision is in the record.
        """

    def ask(self, campaign: KnownCampaign) -> None:
        """Have the owner asked about a campaign. Returns at once."""
