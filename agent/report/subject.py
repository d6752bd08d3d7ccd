"""What a report is of: a campaign as its owner accepted it, and the owner's rows."""

from dataclasses import dataclass
from pathlib import Path

from agent.configuration.settings import AgentSettings
from agent.contract import common_facts, derived
from agent.data.source import DataSource
from agent.errors import NoReport
from agent.installed import load_kind
from agent.orders.jobs import EvaluateJob
from agent.record.campaigns import KnownCampaign, Prepared
from agent.workspace import Identity, Workspace
from shared.digest import sha256_hex
from shared.metrics import HELD_OUT_LOSS, Metric
from shared.plugins import PluginUnavailable
from shared.wire.base import BlobRef

BARE = BlobRef(sha256=sha256_hex(b""), n_bytes=0)
"""In the place of an adapter: the bare base model."""


@dataclass(frozen=True)
class Subject:
    """A campaign that was prepared here, with what this machine has for it.

    Args:
        workspace: the home folder.
        identity: the agent's.
        settings: the owner's.
        known: the campaign.
        prepared: what its preparation found.
        source: the owner's data.
    """

    workspace: Workspace
    identity: Identity
    settings: AgentSettings
    known: KnownCampaign
    prepared: Prepared
    source: DataSource

    @classmethod
    def of(cls, workspace: Workspace, identity: Identity, settings: AgentSettings, known: KnownCampaign) -> "Subject":
        """Raises NoReport if nothing can be measured, and TaskFailed if the data's table or the kind is unusable."""
        name = known.spec.data.name
        if known.prepared is None:
            raise NoReport(
                f"this agent has not prepared for {known.name}, so there is nothing to report on: approve the "
                "campaign, and let the agent run"
            )
        source = settings.source(name)
        if source is None:
            raise NoReport(f"agent.toml names no data {name}: put the table [data.{name}] back that it had")
        if known.prepared.n_held_out == 0:
            raise NoReport(
                f"no row of {name} is held out, so no model can be measured on rows that it was not trained on: set "
                f"held_out or held_out_path in [data.{name}] before the next campaign"
            )
        load_kind(known.spec.kind)
        return cls(workspace, identity, settings, known, known.prepared, source)

    @property
    def loss(self) -> Metric:
        """What the campaign's held-out loss is."""
        return load_kind(self.known.spec.kind).metrics[HELD_OUT_LOSS]

    @property
    def has_expected_answers(self) -> bool:
        """Whether a completion of a row is an answer to be wished for: with labels some are there to be avoided."""
        return not load_kind(self.known.spec.kind).labels

    @property
    def needs_start(self) -> bool:
        """Whether the kind's reference model has the adapter that the campaign starts from."""
        try:
            return self.known.spec.kind_section().reference_is_adapter_zero
        except PluginUnavailable as error:
            raise NoReport(str(error)) from error

    @property
    def model_path(self) -> Path | None:
        """The base model's folder; None: the one in the hub's cache."""
        return self.settings.models.get(self.known.spec.base.model)

    def evaluation(self, number: int, adapter: BlobRef, reference: BlobRef | None) -> EvaluateJob:
        """The job that evaluates a model, as the campaign's own evaluations do.

        Args:
            number: the adapter's.
            adapter: the adapter, or BARE.
            reference: that of the reference model.
        """
        spec = self.known.spec
        return derived(
            EvaluateJob,
            **common_facts(self.known),
            fingerprint=self.prepared.fingerprint,
            lora=spec.lora,
            data=spec.data,
            training=spec.training,
            round=number,
            adapter=adapter,
            reference=reference,
        )


def ref_of(path: Path, sha256: str) -> BlobRef:
    """A file as jobs name it."""
    return BlobRef(sha256=sha256, n_bytes=path.stat().st_size)
