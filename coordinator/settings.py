"""The coordinator's settings, from the environment and the command line; injected, never read at import."""

from ipaddress import IPv4Network, IPv6Network, ip_address, ip_network
from pathlib import Path
from typing import Annotated

from pydantic import AfterValidator, ConfigDict, Field, SecretStr, WithJsonSchema
from pydantic_core import PydanticCustomError
from pydantic_settings import BaseSettings, SettingsConfigDict

from coordinator.database.address import Address, postgres_address, sqlite_address
from coordinator.errors import BadDatabaseUrl
from coordinator.storage.data_folder import SIGNING_KEY_FILE
from coordinator.storage.storage import STORES
from shared.bounds import TEN_YEARS_S
from shared.text.text_file import read_text
from shared.validation.described import Described


class Group(Described):
    """A group of settings; ``FEDLOOM_LEASE__TTL_S`` sets ``lease.ttl_s``."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


class ServiceSettings(Group):
    """The HTTP service."""

    shutdown_s: Annotated[int, Field(ge=1)] = 5
    """Seconds that requests in progress get when the service stops; requests that wait for work end at once."""
    event_keep_alive_s: Annotated[float, Field(gt=0, le=60)] = 15.0
    """Seconds of silence after which an event stream sends a comment, so that proxies keep it open."""


def _networks(text: str) -> list[IPv4Network | IPv6Network]:
    """Parse addresses and networks separated by commas."""
    return [ip_network(each.strip()) for each in text.split(",") if each.strip()]


def _known_addresses(text: str) -> str:
    """Refuse a list with anything but addresses and networks."""
    try:
        _networks(text)
    except ValueError as error:
        raise PydanticCustomError("addresses", "{error}", {"error": str(error)}) from error
    return text


class LimitSettings(Group):
    """What callers may cost, above all those without a valid key."""

    trusted_proxies: Annotated[str, AfterValidator(_known_addresses)] | None = None
    """Addresses or networks of your own proxies, separated by commas: only their `X-Forwarded-For` is believed. Without
    it, the caller is whoever opens the connection."""
    refused_per_minute: Annotated[int, Field(ge=1, le=1_000_000)] = 600
    """Requests without a valid key that are refused in a minute, by address (IPv6: by /64), before the address gets
    429; requests with a valid key are never counted."""
    agent_requests_per_s: Annotated[int, Field(ge=1, le=1_000_000)] = 100
    """Requests of one agent a second, on average over ten seconds; more get 429."""
    agent_requests_at_once: Annotated[int, Field(ge=2, le=10_000)] = 16
    """Requests of one agent at the same time, each with up to 32 MiB; more get 429."""
    header_s: Annotated[float, Field(gt=0, le=3600)] = 15.0
    """Seconds in which a TLS handshake must end, and in which the header of a request must arrive."""
    body_s: Annotated[float, Field(gt=0, le=3600)] = 30.0
    """Seconds in which a further 4 kB of a body must arrive, or its end."""
    reply_s: Annotated[float, Field(gt=0, le=3600)] = 120.0
    """Seconds in which a caller must take some of a reply."""
    keep_alive_s: Annotated[int, Field(ge=1, le=3600)] = 15
    """Seconds for which a connection stays open without a request. A proxy in front must close its idle connections
    earlier (nginx.conf does): one that uses a connection as it is closed answers 502."""
    connections: Annotated[int, Field(ge=16)] = 16_384
    """Most connections; each agent has one. Above it, the oldest without a valid key is closed for a new one, then the
    oldest without a request in progress. The log says when they become few."""
    connections_per_address: Annotated[int, Field(ge=1)] = 128
    """Most connections of one address without a valid key; above it, the oldest of them is closed. Eight times as many
    may be new, or wait for an answer: a thousand agents may return at the same moment."""

    def is_proxy(self, host: str) -> bool:
        """Whether an address is that of a trusted proxy."""
        try:
            address = ip_address(host)
        except ValueError:
            return False
        return any(address in network for network in _networks(self.trusted_proxies or ""))


class LeaseSettings(Group):
    """Leases and waiting for work."""

    ttl_s: Annotated[float, Field(ge=3, le=TEN_YEARS_S)] = 90.0
    """Seconds until a lease expires unless it is renewed. Agents renew at most once a second."""
    max_wait_s: Annotated[float, Field(ge=0, le=TEN_YEARS_S)] = 50.0
    """Longest wait of a request for work, in seconds; below the idle time-out of common proxies (60 s)."""
    max_pause_s: Annotated[float, Field(ge=0, le=3600)] = 60.0
    """Longest time between two leases of one task, in seconds. An agent that takes a task and gives it back again
    and again waits 1 s before its third lease of it, then twice as long each time, up to this and never longer than a
    lease lasts. An agent that still holds the task, because a reply was lost, gets it at once."""


class EngineSettings(Group):
    """The round engine."""

    poll_s: Annotated[float, Field(gt=0, le=TEN_YEARS_S)] = 1.0
    """Seconds between polls of the database; what happens in the same process wakes the engine at once, and on
    PostgreSQL what happens in others too."""
    claim_ttl_s: Annotated[float, Field(gt=0, le=TEN_YEARS_S)] = 60.0
    """Seconds after which another engine may take over a campaign from one that died."""
    campaigns_at_once: Annotated[int, Field(ge=1, le=64)] = 4
    """Most campaigns that one engine ticks at the same time, and most that it aggregates at the same time."""
    aggregation_threads: Annotated[int, Field(ge=1, le=64)] | None = None
    """Threads that work on one aggregation at the same time; by default one for each core, at most 4. The result has
    the same bytes with any number."""
    sweep_s: Annotated[float, Field(gt=0, le=TEN_YEARS_S)] = 5.0
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
    max_upload_bytes_per_agent: Annotated[int, Field(gt=0)] = 16 << 30
    """Most bytes that all unfinished uploads of one agent may have together. They end with their tasks."""
    stale_upload_s: Annotated[float, Field(gt=0, le=TEN_YEARS_S)] = 86400.0
    """Seconds without a new chunk after which an upload is deleted."""
    keep_verifications_s: Annotated[float, Field(ge=0, le=TEN_YEARS_S)] = 30 * 86400.0
    """Seconds for which a verification is stored after its end."""
    orphan_sweep_s: Annotated[float, Field(gt=0, le=TEN_YEARS_S)] = 3600.0
    """Seconds between searches for unreferenced blobs and files; the first search is at the start."""


class SigningSettings(Group):
    """The key that specifications, rosters and adapters are signed with."""

    key_file: Path | None = None
    """File of the signing key, the same for all replicas; by default `signing.key` in the data folder."""


class Settings(BaseSettings, Described):
    """All settings of a coordinator."""

    model_config = SettingsConfigDict(
        env_prefix="FEDLOOM_",
        env_nested_delimiter="__",
        frozen=True,
        hide_input_in_errors=True,
    )

    data_dir: Path = Path("fedloom-data")
    """Folder of the SQLite database and of the updates."""
    database_url: str | None = Field(default=None, repr=False)
    """`postgresql://user:password@host/name`; without it, SQLite in the data folder."""
    database_password: SecretStr | None = None
    """The database's password, if the URL has none."""
    database_password_file: Path | None = None
    """A file that holds the database's password, if the URL has none."""
    database_connections: Annotated[int, Field(ge=5)] = 30
    """Most connections that one process opens to PostgreSQL."""
    service: ServiceSettings = ServiceSettings()
    limits: LimitSettings = LimitSettings()
    lease: LeaseSettings = LeaseSettings()
    engine: EngineSettings = EngineSettings()
    storage: StorageSettings = StorageSettings()
    signing: SigningSettings = SigningSettings()

    @property
    def signing_key_file(self) -> Path:
        """Where the signing key is."""
        return self.signing.key_file or self.data_dir / SIGNING_KEY_FILE

    @property
    def database(self) -> Address:
        """Where the database is. Raises BadDatabaseUrl."""
        if self.database_url is None:
            if self._password() is not None:
                raise BadDatabaseUrl(
                    "it is missing, and FEDLOOM_DATABASE_PASSWORD or FEDLOOM_DATABASE_PASSWORD_FILE is given"
                )
            return sqlite_address(self.data_dir / "fedloom.db")
        return postgres_address(self.database_url, self._password())

    def _password(self) -> str | None:
        file = self.database_password_file
        password = self.database_password.get_secret_value() if self.database_password is not None else ""
        if file is None or file == Path():  # a variable that is set to nothing
            return password or None
        if password:
            raise BadDatabaseUrl("both FEDLOOM_DATABASE_PASSWORD and FEDLOOM_DATABASE_PASSWORD_FILE are given")
        try:
            return read_text(file).rstrip("\r\n")
        except (OSError, UnicodeDecodeError) as error:
            reason = error.strerror if isinstance(error, OSError) else "it is not UTF-8"
            raise BadDatabaseUrl(f"the password's file {file} cannot be read: {reason}") from error
