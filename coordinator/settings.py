"""The coordinator's settings, from the environment and the command line; injected, never read at import."""

from pathlib import Path
from typing import Annotated

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, WithJsonSchema
from pydantic_core import PydanticCustomError
from pydantic_settings import BaseSettings, SettingsConfigDict

from coordinator.storage.storage import STORES

_TEN_YEARS_S = 3650 * 86400.0


class Group(BaseModel):
    """A group of settings; ``FEDLOOM_LEASE__TTL_S`` sets ``lease.ttl_s``."""

    model_config = ConfigDict(extra="forbid", frozen=True, use_attribute_docstrings=True, allow_inf_nan=False)


class ServiceSettings(Group):
    """The HTTP service."""

    shutdown_s: Annotated[int, Field(ge=1)] = 5
    """Seconds that requests in progress get when the service stops; requests that wait for work end at once."""
    event_keep_alive_s: Annotated[float, Field(gt=0, le=60)] = 15.0
    """Seconds of silence after which an event stream sends a comment, so that proxies keep it open."""


class LeaseSettings(Group):
    """Leases and waiting for work."""

    ttl_s: Annotated[float, Field(gt=0)] = 90.0
    """Seconds until a lease expires unless it is renewed."""
    max_wait_s: Annotated[float, Field(ge=0)] = 50.0
    """Longest wait of a request for work, in seconds; below the idle time-out of common proxies (60 s)."""


class EngineSettings(Group):
    """The round engine."""

    poll_s: Annotated[float, Field(gt=0)] = 1.0
    """Seconds between polls of the database; events in the same process wake the engine at once."""
    claim_ttl_s: Annotated[float, Field(gt=0)] = 60.0
    """Seconds after which another engine may take over a campaign from one that died."""
    campaigns_at_once: Annotated[int, Field(ge=1, le=64)] = 4
    """Most campaigns that one engine ticks at the same time, and most that it aggregates at the same time."""
    sweep_s: Annotated[float, Field(gt=0)] = 5.0
    """Seconds between sweeps for expired leases and stale uploads."""


def _known_store(name: str) -> str:
    """Refuse a name that is not in STORES, in pydantic's words for a choice."""
    if name not in STORES:
        *others, last = map(repr, STORES)
        known = f"{', '.join(others)} or {last}"
        raise PydanticCustomError("literal_error", "Input should be {known}", {"known": known})
    return name


class StorageSettings(Group):
    """Storage of blobs and uploads."""

    updates: Annotated[str, AfterValidator(_known_store), WithJsonSchema({"enum": list(STORES)})] = "files"
    """Where updates are stored: as files in the data folder, or in the database if replicas share no folder."""
    max_adapter_bytes: Annotated[int, Field(gt=0)] = 4 << 30
    """Largest size of adapter 0, in bytes; later adapters have the same size."""
    stale_upload_s: Annotated[float, Field(gt=0, le=_TEN_YEARS_S)] = 86400.0
    """Seconds without a new chunk after which an upload is deleted."""
    keep_verifications_s: Annotated[float, Field(ge=0, le=_TEN_YEARS_S)] = 30 * 86400.0
    """Seconds for which a verification is stored after its end."""
    orphan_sweep_s: Annotated[float, Field(gt=0)] = 3600.0
    """Seconds between searches for unreferenced blobs and files; the first search is at the start."""


class Settings(BaseSettings):
    """All settings of a coordinator."""

    model_config = SettingsConfigDict(
        env_prefix="FEDLOOM_", env_nested_delimiter="__", frozen=True, use_attribute_docstrings=True
    )

    data_dir: Path = Path("fedloom-data")
    """Folder of the SQLite database and of the updates."""
    database_url: str | None = None
    """`postgresql://user:password@host/name`; without it, SQLite in the data folder."""
    database_connections: Annotated[int, Field(ge=5)] = 30
    """Most connections that one process opens to PostgreSQL."""
    service: ServiceSettings = ServiceSettings()
    lease: LeaseSettings = LeaseSettings()
    engine: EngineSettings = EngineSettings()
    storage: StorageSettings = StorageSettings()

    @property
    def sqlalchemy_url(self) -> str:
        """The database's URL with the driver that the coordinator uses."""
        if self.database_url is None:
            return f"sqlite+aiosqlite:///{(self.data_dir / 'fedloom.db').resolve()}"
        for scheme in ("postgresql://", "postgres://"):
            if self.database_url.startswith(scheme):
                return "postgresql+asyncpg://" + self.database_url.removeprefix(scheme)
        return self.database_url
