"""The adapters of a campaign on this machine: what the agent downloaded, and folders that its owner pulled.

An adapter is the campaign's if its digest was signed for it. Where nothing was signed, bookings name the adapters that
work was done with.
"""

from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from agent.errors import NoReport
from agent.record.campaigns import KnownCampaign
from agent.report.subject import Subject
from agent.signing.standing import Standing
from shared.digest import sha256_file

WEIGHTS_FILE = "adapter_model.safetensors"
"""The weights in a folder that `fedloom agent pull` wrote: the bytes of the adapter as they are."""


@dataclass(frozen=True)
class FoundAdapter:
    """An adapter of the campaign: its number, its digest, and where it is."""

    number: int
    sha256: str
    path: Path


def digests_of(subject: Subject) -> Mapping[int, str]:
    """The digests of the campaign's adapters in its present history, by number."""
    known, record = subject.known, subject.workspace.record
    signed = record.statements(subject.identity.signing_key).of_campaign(known.id)
    if signed:
        adapters = Standing.of(known.id, signed).adapters
        return {number: each.sha256 for number, each in sorted(adapters.items())}
    return dict(sorted(record.bookings.adapters(known.id).items()))


def find_adapters(subject: Subject, folders: Iterable[Path], wanted: Collection[int]) -> list[FoundAdapter]:
    """The adapters of the campaign on this machine, by number. Those in folders stand for those of the cache.

    Adapter 0 is among them only if it is not the bare base model: if another campaign made it. Raises NoReport if there
    is none, a folder has none of this campaign, or one that is wanted is not here.

    wanted: numbers; empty for all.
    """
    digests = digests_of(subject)
    found = {each.number: each for each in _cached(subject, digests)}
    found |= {each.number: each for each in (_in_folder(subject.known, digests, folder) for folder in folders)}
    if subject.known.spec.start_sha256 is None:
        found.pop(0, None)
    if missing := sorted(set(wanted) - found.keys()):
        if missing[0] == 0 and subject.known.spec.start_sha256 is None:
            raise NoReport(f"adapter 0 of {subject.known.name} adds nothing to the base model, which each report has")
        have = f"here are {', '.join(map(str, sorted(found)))}" if found else "none of its adapters is here"
        raise NoReport(f"adapter {missing[0]} of {subject.known.name} is not on this machine: {have}. {_how(subject)}")
    if not found:
        raise NoReport(f"no adapter of {subject.known.name} is on this machine. {_how(subject)}")
    return [each for number, each in sorted(found.items()) if not wanted or number in wanted]


def missing_of(subject: Subject, found: Iterable[FoundAdapter]) -> list[int]:
    """Numbers of the campaign's adapters that were not found, or whose file is damaged."""
    return sorted(digests_of(subject).keys() - {0, *(each.number for each in found)})


def find_start(subject: Subject, folders: Iterable[Path]) -> FoundAdapter | None:
    """Adapter 0 if it is on this machine."""
    digests = {0: start} if (start := start_digest(subject)) is not None else {}
    in_folders = (folder / WEIGHTS_FILE for folder in folders)
    for path in (*(each.path for each in _cached(subject, digests)), *in_folders):
        if path.is_file() and sha256_file(path) == digests.get(0):
            return FoundAdapter(0, digests[0], path)
    return None


def start_digest(subject: Subject) -> str | None:
    """The digest of adapter 0; None if nothing here tells it."""
    return subject.known.spec.start_sha256 or digests_of(subject).get(0)


def _cached(subject: Subject, digests: Mapping[int, str]) -> Iterator[FoundAdapter]:
    for number, sha256 in digests.items():
        path = subject.workspace.cached_adapter(sha256)
        if path is not None:
            yield FoundAdapter(number, sha256, path)


def _in_folder(known: KnownCampaign, digests: Mapping[int, str], folder: Path) -> FoundAdapter:
    """The adapter in a folder. Raises NoReport if it is not one of the campaign."""
    path = folder / WEIGHTS_FILE
    if not path.is_file():
        raise NoReport(f"{folder} has no {WEIGHTS_FILE}: name a folder that `fedloom agent pull` wrote")
    sha256 = sha256_file(path)
    for number, each in digests.items():
        if each == sha256:
            return FoundAdapter(number, sha256, path)
    raise NoReport(
        f"{folder} holds no adapter of {known.name} as it stands: no adapter of these bytes was signed for it, or it "
        "was rolled back since"
    )


def _how(subject: Subject) -> str:
    name = subject.known.name
    report = f"`fedloom agent report {name} --folder FOLDER`"
    return f"Get one with `fedloom agent pull {name} -o FOLDER`, and name it: {report}"
