"""The coordinator's settings, from the environment and the command line; injected, never read at import."""

from pathlib import Path
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field
from pydantic_settings import BaseSettings, SettingsConfigDict


class Group(BaseModel):
    """A group of settings; ``FEDLOOM_LEASE__TTL_S`` sets ``lease.ttl_s``."""

    model_config = ConfigDict(extra="forbid", frozen=True, use_attribute_docstrings=True)


class ServiceSettings(Group):
    """The HTTP service."""

    shutdown_s: Annotated[int, Field(ge=1)] = 5
    """Seconds that requests in progress get when the service stops; requests that wait for work end at once."""
    event_keep_alive_s: Annotated[float, Field(gt=0, le=60)] = 15.0
    """Seconds of silence after which an event stream sends a comment, so that proxies keep it open."""


class LeaseSettings(Group):
    """Leases and waiting for work."""

    ttl_s: Annotated[float, Field(gt=0)] = 90.0
    """Seconds that a lease lives without being renewed."""
    max_wait_s: Annotated[float, Field(ge=0)] = 50.0
    """Longest that a request for work waits; below the idle time-outs of usual proxies (60 s)."""


class EngineSettings(Group):
    """The round engine."""

    poll_s: Annotated[float, Field(gt=0)] = 1.0
    """Seconds between looks at the database; what happens in the same process wakes it at once."""
    claim_ttl_s: Annotated[float, Field(gt=0)] = 60.0
    """Seconds after which another engine may take over a campaign from one that died."""
    campaigns_at_once: Annotated[int, Field(ge=1, le=64)] = 4
    """Campaigns that one engine moves on at the same time, and that it aggregates at the same time."""
    sweep_s: Annotated[float, Field(gt=0)] = 5.0
    """Seconds between looks for expired leases and stale uploads."""


class StorageSettings(Group):
    """Where bytes are kept."""

    updates: Literal["files", "database"] = "files"
    """Updates as files in the data folder, or in the database where several replicas share no folder."""
    max_adapter_bytes: Annotated[int, Field(gt=0)] = 4 << 30
    """Largest adapter 0; later ones have its size."""
    stale_upload_s: Annotated[float, Field(gt=0)] = 86400.0
    """Seconds after which an upload that nobody goes on with is thrown away."""
    keep_verifications_s: Annotated[float, Field(ge=0)] = 30 * 86400.0
    """Seconds for which a verification is stored after its end."""
    orphan_sweep_s: Annotated[float, Field(gt=0)] = 3600.0
    """Seconds between searches for blobs and files that a killed process left; the first one is at the start."""


class Settings(BaseSettings):
    """All settings of a coordinator."""

    model_config = SettingsConfigDict(
        env_prefix="FEDLOOM_", env_nested_delimiter="__", frozen=True, use_attribute_docstrings=True
    )

    data_dir: Path = Path("fedloom-data")
    """Folder of the SQLite file and of the updates."""
    database_url: str | None = None
    """`postgresql://user:password@host/name`; left out, SQLite in the data folder."""
    database_connections: Annotated[int, Field(ge=5)] = 30
    """Connections to PostgreSQL that one process opens at most."""
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
