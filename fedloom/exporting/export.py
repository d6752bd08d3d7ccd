"""A campaign's metrics, benchmarks, rounds, events, clients and gains as CSV or as JSON lines, one page at a time."""

import json
from collections.abc import Iterator, Mapping
from typing import Any, TextIO

from pydantic import BaseModel

from fedloom.adapters.benchmarks_shown import BENCHMARK_COLUMNS, benchmark_rows
from fedloom.client import Client
from fedloom.exporting.csv_table import write_csv
from fedloom.exporting.export_options import Format, What
from fedloom.measured import held_out_metrics
from shared.metrics import Origin
from shared.text.plain_text import visible_json
from shared.wire.campaigns import CampaignDetail, ClientView, RoundView
from shared.wire.events import EventView
from shared.wire.gains import GainView

METRIC_COLUMNS = ("round", "client", "name", "value", "unit", "n_clients", "of_clients", "at")
_NESTED = ("training", "held_out", "base")
"""The fields of a client that are columns of their own for each metric."""


def export(client: Client, campaign: CampaignDetail, what: What, form: Format, file: TextIO) -> None:
    """Write all records of one sort to a text file that was opened with ``newline=""``.

    CSV has a header line; in JSON lines each record is as in the REST API. Benchmarks are rows of BENCHMARK_COLUMNS in
    both.
    """
    if form is Format.CSV:
        write_csv(file, _columns(campaign, what), _rows(client, campaign, what))
        return
    if what is What.BENCHMARKS:
        rows = ({name: row.get(name) for name in BENCHMARK_COLUMNS} for row in benchmark_rows(client, campaign))
        file.writelines(visible_json(json.dumps(row, ensure_ascii=False)) + "\n" for row in rows)
        return
    file.writelines(visible_json(record.model_dump_json()) + "\n" for record in _records(client, campaign.id, what))


def _records(client: Client, campaign_id: str, what: What) -> Iterator[BaseModel]:
    match what:
        case What.METRICS:
            return client.metrics(campaign_id)
        case What.ROUNDS:
            return client.rounds(campaign_id)
        case What.EVENTS:
            return client.events(campaign_id, follow=False)
        case What.CLIENTS:
            return client.clients(campaign_id)
        case What.GAINS:
            return client.gains(campaign_id)
        case What.BENCHMARKS:
            raise AssertionError(what)  # its rows are no records of the API


def metric_rows(client: Client, campaign_id: str) -> Iterator[Mapping[str, Any]]:
    """The metrics in the order in which they were recorded, with METRIC_COLUMNS. client: empty for a whole round.

    n_clients, of_clients: of a mean, the clients that it is over, and those that took part.
    """
    for metric in client.metrics(campaign_id):
        yield {**dict(metric), "client": metric.agent_name}


def _columns(campaign: CampaignDetail, what: What) -> list[str]:
    match what:
        case What.METRICS:
            return list(METRIC_COLUMNS)
        case What.BENCHMARKS:
            return list(BENCHMARK_COLUMNS)
        case What.ROUNDS:
            return list(RoundView.model_fields)
        case What.EVENTS:
            return list(EventView.model_fields)
        case What.GAINS:
            return list(GainView.model_fields)
        case What.CLIENTS:
            training = [f"training.{each.name}" for each in campaign.metrics if each.origin is Origin.TRAINING]
            held_out = [f"{field}.{each.name}" for field in _NESTED[1:] for each in held_out_metrics(campaign)]
            return [*(field for field in ClientView.model_fields if field not in _NESTED), *training, *held_out]


def _rows(client: Client, campaign: CampaignDetail, what: What) -> Iterator[Mapping[str, Any]]:
    match what:
        case What.METRICS:
            yield from metric_rows(client, campaign.id)
        case What.BENCHMARKS:
            yield from benchmark_rows(client, campaign)
        case What.CLIENTS:
            for each in client.clients(campaign.id):
                nested = {f"{field}.{name}": value for field in _NESTED for name, value in getattr(each, field).items()}
                yield {**each.model_dump(), **nested}
        case _:
            yield from map(dict, _records(client, campaign.id, what))
