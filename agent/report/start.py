"""The adapter that a campaign starts from: found here, or computed from the campaign's seed."""

from collections.abc import Sequence
from pathlib import Path

from agent.contract import common_facts, derived
from agent.errors import NoReport
from agent.orders.job import LocalJob
from agent.orders.job_files import ADAPTER_FILE
from agent.orders.jobs import InitJob
from agent.report.adapters import FoundAdapter, find_start, start_digest
from agent.report.child import OnProgress, ReportChild
from shared.digest import sha256_file
from shared.system.private_files import private_folder


def start_adapter(child: ReportChild, folders: Sequence[Path], on_progress: OnProgress) -> FoundAdapter:
    """Adapter 0 of the campaign, as a file of this report.

    Raises NoReport if it comes from another campaign and is not on this machine, or is not what the seed gives.
    """
    subject = child.subject
    found = find_start(subject, folders)
    if found is not None:
        return FoundAdapter(0, found.sha256, child.kept(found.path, found.sha256))
    name, expected = subject.known.name, start_digest(subject)
    if subject.known.spec.start_sha256 is not None:
        raise NoReport(
            f"{name} starts from an adapter of another campaign ({str(expected)[:12]}…), which is no longer on this "
            f"machine. Get it with `fedloom agent pull {name} --adapter 0 -o FOLDER`, and name it: "
            f"`fedloom agent report {name} --folder FOLDER`"
        )
    path = _computed(child, on_progress)
    sha256 = sha256_file(path)
    if expected is not None and sha256 != expected:
        raise NoReport(f"adapter 0 of {name} is not the one that its seed gives, so nothing is computed from it")
    return FoundAdapter(0, sha256, path)


def _computed(child: ReportChild, on_progress: OnProgress) -> Path:
    subject, spec = child.subject, child.subject.known.spec
    folder = child.work / "start"
    private_folder(folder)
    facts = {"fingerprint": subject.prepared.fingerprint, "lora": spec.lora, "seed": spec.training.seed}
    job = derived(InitJob, **common_facts(subject.known), **facts)

    def order(micro_batch: int) -> LocalJob:
        return LocalJob(
            compute=subject.settings.compute,
            job=job,
            folder=folder,
            cache=subject.workspace.cache,
            model_path=subject.model_path,
            data=None,
            adapter=None,
            broadcast=None,
            micro_batch=micro_batch,
            remote_code=subject.settings.policy.remote_code,
        )

    child.run(order, on_progress)
    return folder / ADAPTER_FILE
