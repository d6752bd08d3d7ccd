"""What left, in words: ``3 deltas of 4.1 MB, 12 losses, 214 polls; no text``."""

from typing import TYPE_CHECKING

from fedloom.cli import output

if TYPE_CHECKING:
    from agent.ledger.summary import Outflow

_FILES = {
    "delta": ("delta", "deltas"),
    "extras": ("file of extras", "files of extras"),
    "adapter": ("adapter 0", "adapters 0"),
}


def in_words(outflow: "Outflow") -> str:
    """What left, in a line."""
    from agent.ledger.outbound import POLLS

    parts = [part for kind in _FILES if (part := _files(outflow, kind))]
    if outflow.n_losses:
        parts.append(_counted(outflow.n_losses, "loss", "losses"))
    if outflow.n_numbers:
        parts.append(_counted(outflow.n_numbers, "other number"))
    if outflow.n_benchmarks:
        parts.append(_counted(outflow.n_benchmarks, "value of benchmarks", "values of benchmarks"))
    polls = sum(outflow.requests[purpose] for purpose in POLLS)
    if polls or outflow.unknown_runs:
        parts.append(_counted(polls, "poll") + _unknown(outflow.unknown_runs))
    if others := outflow.n_requests - polls:
        parts.append(_counted(others, "other request" if polls else "request"))
    texts = _counted(len(outflow.texts), "text") if outflow.texts else "no text"
    return f"{', '.join(parts) or 'nothing'}; {texts}"


def _unknown(n_runs: int) -> str:
    return f" and {_counted(n_runs, 'run')} of unknown count" if n_runs else ""


def _files(outflow: "Outflow", kind: str) -> str:
    sizes = [n_bytes for (each, _), n_bytes in outflow.files.items() if each == kind]
    if not sizes:
        return ""
    least, most = output.size(min(sizes)), output.size(max(sizes))
    count = "adapter 0" if kind == "adapter" and len(sizes) == 1 else _counted(len(sizes), *_FILES[kind])
    return f"{count} of {least if least == most else f'{least} to {most}'}"


def _counted(number: int, one: str, many: str = "") -> str:
    return f"{number:,} {one if number == 1 else many or one + 's'}"
