"""NO_PROXY: the hosts that are reached directly."""

import ipaddress
import re
from urllib.parse import SplitResult

_PORTS = {"http": 80, "https": 443}
_HOST_AND_PORT = re.compile(
    r"(?:\[(?P<bracketed>[^\[\]]*)\](?P<length>/[0-9]+)?|(?P<plain>[^\[\]:]*))(?::(?P<port>[0-9]+))?"
)

Network = ipaddress.IPv4Network | ipaddress.IPv6Network


def is_direct(target: SplitResult, no_proxy: str) -> bool:
    """Whether NO_PROXY covers a URL.

    Its entries are separated by commas or spaces. Each is ``*``, a domain with its subdomains (``example.org``,
    ``.example.org``, ``*.example.org``), an address (``10.0.0.1``, ``::1``, ``[::1]``) or a network (``10.0.0.0/8``,
    ``fd00::/8``), and may end in a port (``example.org:8470``, ``[::1]:8470``). Others cover nothing, as elsewhere.
    """
    host = (target.hostname or "").rstrip(".")
    port = target.port or _PORTS[target.scheme]
    return any(_covers(entry, host, port) for entry in re.split(r"[,\s]+", no_proxy.lower()) if entry)


def _covers(entry: str, host: str, port: int) -> bool:
    if entry == "*":
        return True
    if (network := _network(entry)) is not None:
        return _is_in(host, network)
    parts = _HOST_AND_PORT.fullmatch(entry)
    if parts is None or (parts["port"] is not None and int(parts["port"]) != port):
        return False
    if parts["bracketed"] is not None:
        network = _network(parts["bracketed"] + (parts["length"] or ""))
        return network is not None and _is_in(host, network)
    if (network := _network(parts["plain"])) is not None:
        return _is_in(host, network)
    domain = parts["plain"].removeprefix("*").strip(".")
    return bool(domain) and (host == domain or host.endswith(f".{domain}"))


def _network(text: str) -> Network | None:
    """An address or a network. None if the text is neither."""
    try:
        return ipaddress.ip_network(text, strict=False)
    except ValueError:
        return None


def _is_in(host: str, network: Network) -> bool:
    try:
        return ipaddress.ip_address(host) in network
    except ValueError:
        return False
