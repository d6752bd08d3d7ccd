"""What the table of a data source refuses."""

import json
from collections.abc import Iterator
from fnmatch import fnmatchcase

from agent.configuration.settings import AgentSettings
from agent.data.source import DataSource
from agent.policy.refusals import Refusal
from shared.campaign.spec import CampaignSpec


def source_refusals(
    settings: AgentSettings, spec: CampaignSpec, campaign_id: str, spec_sha256: str
) -> Iterator[Refusal]:
    """What keeps a campaign from the data that it names: no usable table, or what the table refuses.

    A refusal leaves this machine. It tells neither the names of other data nor the campaigns that others are bound to.
    """
    name = spec.data.name
    if name in settings.broken_data:
        problems = "; ".join(map(str, settings.broken_data[name]))
        yield Refusal(f"data.{name}", "a table with errors", problems)
    elif name not in settings.data:
        asked, remedy = f"the campaign's data is {name}", f"describe it in a table [data.{name}]"
        yield Refusal(f"data.{name}", "no table", asked, remedy)
    else:
        yield from data_refusals(settings.data[name], spec, campaign_id, spec_sha256)


def data_refusals(source: DataSource, spec: CampaignSpec, campaign_id: str, spec_sha256: str) -> Iterator[Refusal]:
    """What a data source refuses of a campaign that names it."""
    table = f"data.{spec.data.name}"
    if source.campaigns is not None and not source.is_bound_to(campaign_id, spec_sha256):
        asked = f"the campaign is {campaign_id} with the digest {spec_sha256}"
        yield Refusal(f"{table}.campaigns", "a list without it", asked)
    if source.kinds is not None and spec.kind not in source.kinds:
        yield Refusal(f"{table}.kinds", json.dumps(source.kinds), f"the kind of training is {spec.kind}")
    if source.algorithms is not None and not any(fnmatchcase(spec.algorithm.name, each) for each in source.algorithms):
        yield Refusal(f"{table}.algorithms", json.dumps(source.algorithms), f"the algorithm is {spec.algorithm.name}")
