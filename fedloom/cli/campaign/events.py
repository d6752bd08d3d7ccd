"""``fedloom campaign events``: the events of one campaign, or of all, as lines."""

import sys
from collections.abc import Sequence
from datetime import datetime

from fedloom.cli import output
from fedloom.cli.campaign.watch import event_line
from fedloom.cli.failures import ExitCode
from fedloom.client import Client
from fedloom.errors import Refused, Unreachable, is_outage
from shared.events import EventType
from shared.text.plain_text import visible_line
from shared.wire.campaigns import CampaignDetail
from shared.wire.events import FeedEventView


def print_events(
    client: Client,
    campaign: str | None,
    types: Sequence[EventType],
    since: datetime | None,
    until: datetime | None,
    *,
    follow: bool,
    as_json: bool,
) -> None:
    """Print events, each as one line. Raises errors.FedloomError.

    Args:
        client: connected to the coordinator.
        campaign: id or name; None for all campaigns.
        types, since, until: which events.
        follow: go on with new events as they happen, until the campaign ends.
        as_json: print each event as one line of JSON.
    """
    details: dict[str, CampaignDetail] = {}
    if campaign is not None:
        detail = client.campaign(campaign)
        details[detail.id] = detail
        events = client.events(detail.id, follow=follow, types=types, since=since, until=until)
    else:
        events = client.all_events(follow=follow, types=types, since=since, until=until)
    try:
        for event in events:
            if as_json:
                output.print_json_line(event.model_dump(mode="json"))
                continue
            if isinstance(event, FeedEventView):
                campaign_id, prefix = event.campaign_id, f"{event.campaign_name}: "
            else:
                campaign_id, prefix = detail.id, ""
            named = _detail(client, details, campaign_id, event.data.get("agent_id"), follow=follow)
            output.say(visible_line(prefix + event_line(event, named)))
    except KeyboardInterrupt:
        output.say("stopped following", err=True)
        sys.exit(ExitCode.INTERRUPTED)


def _detail(
    client: Client,
    details: dict[str, CampaignDetail],
    campaign_id: str,
    agent_id: str | None,
    *,
    follow: bool,
) -> CampaignDetail | None:
    """A campaign whose participants include the agent, for its name.

    Args:
        details: the campaigns known, by id; the campaign is read again if the agent joined it meanwhile.
        follow: in an outage return what is known, or None: the events are followed through it.
    """
    known = details.get(campaign_id)
    if known is None or (agent_id and all(each.agent_id != agent_id for each in known.participants)):
        try:
            known = details[campaign_id] = client.campaign(campaign_id)
        except (Unreachable, Refused) as error:
            if not follow or not is_outage(error):
                raise
    return known
