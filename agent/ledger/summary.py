"""What left, added up by campaign."""

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import parse_qsl, urlsplit

from agent.ledger.entries import Entry, PollsClosed, PollsOpened, Request
from agent.ledger.outbound import Purpose


@dataclass
class Outflow:
    """What left for one campaign, or for none.

    Args:
        requests: requests by their purpose; polls of runs whose end is unknown are not counted.
        bytes: bytes of bodies by the purpose of their requests.
        files: size of each file whose upload was begun, by its kind and digest.
        n_losses: losses that were sent.
        n_numbers: other metrics that were sent.
        n_benchmarks: values of public benchmarks that were sent.
        texts: sentences that were sent: reasons of failures and of benchmarks that gave no number, notices of data.
        unknown_runs: runs of polls whose number is unknown, because the process was killed.
    """

    requests: Counter[Purpose] = field(default_factory=Counter)
    bytes: Counter[Purpose] = field(default_factory=Counter)
    files: dict[tuple[str, str], int] = field(default_factory=dict)
    n_losses: int = 0
    n_numbers: int = 0
    n_benchmarks: int = 0
    texts: list[str] = field(default_factory=list)
    unknown_runs: int = 0

    @property
    def n_requests(self) -> int:
        """All requests."""
        return self.requests.total()

    @property
    def n_bytes(self) -> int:
        """Bytes of all bodies."""
        return self.bytes.total()

    def add(self, entry: Request) -> None:
        """Count one request."""
        self.requests[entry.purpose] += 1
        self.bytes[entry.purpose] += entry.bytes
        body = entry.body if isinstance(entry.body, dict) else {}
        match entry.purpose:
            case Purpose.UPLOAD:
                file = dict(parse_qsl(urlsplit(entry.path).query))
                self.files[(str(file.get("purpose")), str(file.get("sha256")))] = int(file.get("n_bytes", 0))
            case Purpose.RENEWAL:
                progress = body.get("progress") or {}
                self.n_losses += progress.get("loss") is not None
                self._add_metrics(progress.get("metrics", {}))
            case Purpose.RESULT:
                self._add_metrics(body.get("metrics", {}))
                self.texts += body.get("notices", [])
                self._add_scores(body.get("scores", []))
            case Purpose.GAIN:
                self.n_losses += len(body)
            case Purpose.FAILURE:
                self.texts.append(str(body.get("message")))

    def _add_metrics(self, metrics: Mapping[str, Any]) -> None:
        losses = sum(map(_is_loss, metrics))
        self.n_losses += losses
        self.n_numbers += len(metrics) - losses

    def _add_scores(self, scores: Iterable[Mapping[str, Any]]) -> None:
        for score in scores:
            self.n_benchmarks += len(score.get("values", {}))
            self.texts += [str(score["not_run"])] if score.get("not_run") else []


def outflows(entries: Iterable[Entry]) -> dict[str | None, Outflow]:
    """What left by campaign; None for what is about no campaign or about several, as polls are."""
    found: dict[str | None, Outflow] = {}
    open_runs: dict[int, PollsOpened] = {}
    for entry in entries:
        match entry.says:
            case Request() as request:
                found.setdefault(request.campaign, Outflow()).add(request)
            case PollsOpened() as opened:
                open_runs[entry.n] = opened
            case PollsClosed() as closed:
                run = open_runs.pop(closed.opened, None)
                outflow = found.setdefault(None, Outflow())
                purpose = run.purpose if run is not None else Purpose.WORK
                outflow.requests[purpose] += closed.count
                outflow.bytes[purpose] += closed.bytes
    if open_runs:
        found.setdefault(None, Outflow()).unknown_runs += len(open_runs)
    return found


def _is_loss(metric: str) -> bool:
    return "loss" in metric.split("_")
