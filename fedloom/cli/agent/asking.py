"""Asks the owner about campaigns on the terminal of ``fedloom agent run``, beside all other work."""

import queue
import threading
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from fedloom.cli import output
from fedloom.cli.agent.deciding import command, record_decision, refusal_in_words
from fedloom.cli.agent.known import OwnersHome, decided
from fedloom.cli.agent.typed_lines import TypedLines, is_terminal
from fedloom.cli.agent.words.campaign import campaign_table
from shared.text.plain_text import visible_line

if TYPE_CHECKING:
    from agent.record.campaigns import Decision, KnownCampaign
    from agent.workspace import Workspace

_QUESTION = "Take part in {name}, by the digest\n{digest}?\nType y (yes), n (no) or l (later), and Enter:"


def terminal_of(home: Path) -> "TerminalAsker | None":
    """What asks on this process's terminal; None without one."""
    return TerminalAsker(home) if is_terminal() else None


class TerminalAsker:
    """Shows a campaign that waits, and reads the answer, in a thread that ends with the process.

    home: the folder as the owner named it, for the commands that are shown.
    """

    def __init__(self, home: Path) -> None:
        self._home = home
        self._waiting: queue.SimpleQueue[KnownCampaign] = queue.SimpleQueue()
        self._asked: set[tuple[str, str]] = set()
        self._lines = TypedLines()

    def attend(self, workspace: "Workspace", on_decision: Callable[[], object]) -> None:
        """Begin to ask."""
        work = (workspace, on_decision)
        threading.Thread(target=self._work, args=work, name="asks the owner", daemon=True).start()

    def ask(self, campaign: "KnownCampaign") -> None:
        """Ask about a campaign once those before it are answered."""
        self._waiting.put(campaign)

    def _work(self, workspace: "Workspace", on_decision: Callable[[], object]) -> None:
        from agent.errors import AgentError

        while True:
            campaign = self._waiting.get()
            try:
                if self._settle(workspace, campaign):
                    on_decision()
            except (AgentError, OSError) as error:
                self._say(f"campaign {campaign.name} cannot be asked about: {error}")
                self._say_later(campaign)

    def _settle(self, workspace: "Workspace", campaign: "KnownCampaign") -> bool:
        """Ask about one campaign, unless it was decided meanwhile. Returns whether the owner decided here."""
        from agent.configuration.settings import load_settings
        from agent.record.campaigns import Decision

        key = (campaign.id, campaign.spec_sha256)
        if key in self._asked or self._is_decided(workspace, campaign):
            return False
        self._asked.add(key)
        home = OwnersHome(workspace, workspace.read_identity(), load_settings(workspace.settings_file))
        self._show(home, campaign)
        if self._say_all(refusal_in_words(home, campaign)):
            self._say_later(campaign)
            return False
        match self._answer(workspace, campaign):
            case "y":
                # what agent.toml says now, and not what it said when the question was shown
                home = OwnersHome(workspace, home.identity, load_settings(workspace.settings_file))
                if self._say_all(refusal_in_words(home, campaign, "your settings refuse it now:")):
                    return False
                return self._decide(home, campaign, Decision.ACCEPTED)
            case "n":
                return self._decide(home, campaign, Decision.REFUSED)
            case "l":
                self._say_later(campaign)
        return False

    def _show(self, home: OwnersHome, campaign: "KnownCampaign") -> None:
        console = output.console(stderr=True)
        with console.capture() as page:  # written at once: other threads log to the same terminal
            console.print(campaign_table(campaign, home.settings.policy))
        output.say(f"\nA campaign waits for you.\n\n{page.get()}", err=True)

    def _answer(self, workspace: "Workspace", campaign: "KnownCampaign") -> str | None:
        """The answer as its first letter; None if the campaign was decided elsewhere, or has changed, meanwhile."""
        self._lines.skip()
        while True:
            self._say(_QUESTION.format(name=campaign.name, digest=campaign.spec_sha256))
            typed = self._lines.next(lambda: self._is_decided(workspace, campaign))
            if typed is None or self._is_decided(workspace, campaign):
                self._say_decided(workspace, campaign)
                return None
            answer = typed.lower() or "l"
            if answer in ("y", "yes", "n", "no", "l", "later"):
                return answer[0]

    @staticmethod
    def _is_decided(workspace: "Workspace", campaign: "KnownCampaign") -> bool:
        """Whether the campaign no longer waits for an answer to this question."""
        now = workspace.record.campaigns.find(campaign.id)
        return now is None or now.spec_sha256 != campaign.spec_sha256 or now.decision != "waiting"

    def _decide(self, home: OwnersHome, campaign: "KnownCampaign", decision: "Decision") -> bool:
        if not record_decision(home, campaign, decision):
            self._say_decided(home.workspace, campaign)
            return False
        done = "you take part in" if decision == "accepted" else "you refused"
        self._say(f"{done} campaign {campaign.name}, by the digest\n{campaign.spec_sha256}")
        return True

    def _say_decided(self, workspace: "Workspace", campaign: "KnownCampaign") -> None:
        now = workspace.record.campaigns.find(campaign.id)
        if now is None or now.spec_sha256 != campaign.spec_sha256:
            self._say(f"campaign {campaign.name} is no longer what was shown; nothing was decided here")
        else:
            self._say(f"campaign {campaign.name} was decided elsewhere: {decided(now)}")

    def _say_later(self, campaign: "KnownCampaign") -> None:
        words = [command(verb, campaign.spec_sha256, self._home) for verb in ("approve", "refuse")]
        self._say(f"{campaign.name} waits until you type:\n  {words[0]}\n  {words[1]}")

    def _say_all(self, lines: list[str]) -> bool:
        """Say some lines. Returns whether there are any."""
        for line in lines:
            self._say(line)
        return bool(lines)

    def _say(self, text: str) -> None:
        output.say("\n".join(map(visible_line, text.split("\n"))), err=True)
