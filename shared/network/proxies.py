"""The proxy by which a URL is reached, as the environment says: HTTPS_PROXY, HTTP_PROXY, ALL_PROXY, NO_PROXY.

This machine is always reached directly. Plain http:// never goes through a proxy, which would read the secrets.
"""

import importlib.util
import ipaddress
import os
import re
from dataclasses import dataclass
from urllib.parse import SplitResult, urlsplit
from urllib.request import getproxies, proxy_bypass

from shared.network.environment import BadEnvironment
from shared.network.no_proxy import is_direct
from shared.network.urls import is_this_machine

_SCHEMES = ("http", "https", "socks5", "socks5h")
_HOST = re.compile(r"[A-Za-z0-9._-]+|[0-9a-fA-F:.]+")


@dataclass(frozen=True)
class Proxy:
    """A proxy. url: with the user name and password, if it needs one. variable: where it is named."""

    url: str
    variable: str

    def __str__(self) -> str:
        """The proxy without its password, and where it is named."""
        parts = urlsplit(self.url)
        return f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}, which {self.variable} names"


def proxy_for(url: str) -> Proxy | None:
    """Return the proxy for a valid URL, None if it is reached directly.

    Raises BadEnvironment if the proxy cannot be used, and for plain http:// that would go through a proxy.
    """
    target = urlsplit(url)
    proxies = getproxies()  # of the environment; without any there, those of Windows and macOS
    found = next(((key, proxies[key]) for key in (target.scheme, "all") if proxies.get(key)), None)
    if found is None or is_this_machine(target.hostname or ""):
        return None
    variable = _variable(*found)
    if is_direct(target, proxies.get("no", "")) or (variable is None and proxy_bypass(target.hostname or "")):
        return None
    shown = variable or "the system's settings"
    if target.scheme == "http":
        raise BadEnvironment(
            shown,
            f"names a proxy, which would read the secrets that are sent to http://{target.netloc}: use https://, "
            f"or add {target.hostname} to NO_PROXY",
        )
    return _checked(found[1].strip(), shown)


def _variable(scheme: str, value: str) -> str | None:
    """The name of the environment variable with this proxy. None if none has it."""
    names = (name for name, given in os.environ.items() if name.lower() == f"{scheme}_proxy" and given == value)
    return max(names, default=None)  # the name in small letters wins, as it does for the value


def _checked(value: str, variable: str) -> Proxy:
    """The proxy at a URL, or at HOST:PORT. Raises BadEnvironment."""
    url = value if "://" in value else f"http://{value}"
    try:
        parts = urlsplit(url)
        usable = url.isprintable() and _names_a_host(parts)
    except ValueError:
        usable = False
    if not usable:
        raise BadEnvironment(variable, "does not name a proxy: it needs the form http://HOST:PORT")
    if parts.scheme not in _SCHEMES:
        raise BadEnvironment(
            variable, f"names a proxy of the unknown kind {parts.scheme}://; known are {', '.join(_SCHEMES)}"
        )
    if parts.scheme.startswith("socks") and importlib.util.find_spec("socksio") is None:
        raise BadEnvironment(
            variable,
            "names a SOCKS proxy, for which a library is missing: run: pip install 'httpx[socks]', "
            "or add the coordinator's host to NO_PROXY",
        )
    return Proxy(url, variable)


def _names_a_host(parts: SplitResult) -> bool:
    """Whether a URL has a usable host. Raises ValueError for a malformed port."""
    userinfo, _, host_and_port = parts.netloc.rpartition("@")
    if not parts.netloc.isascii() or not parts.netloc.isprintable() or " " in parts.netloc or parts.port == 0:
        return False
    host = parts.hostname or ""
    if re.fullmatch(r"[0-9.]+", host) or host_and_port.startswith("["):
        ipaddress.ip_address(host)
    return _HOST.fullmatch(host) is not None and not set(userinfo) & set("[]\\")
