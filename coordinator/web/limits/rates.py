"""Token buckets by key, bounded in memory; and the key of an address."""

import math
from collections import OrderedDict
from collections.abc import Callable
from ipaddress import IPv6Address, ip_address
from time import monotonic

_MAX_BUCKETS = 10_000
_IPV6_PREFIX = 64
"""Bits of an IPv6 address that count: a single household or virtual machine gets a whole /64."""


class Buckets:
    """A token bucket for each key. A key that was never seen has a full bucket.

    The least recently used bucket is dropped above a bounded number of keys, which at worst forgives what its key owed.
    """

    def __init__(self, per_s: float, burst: float, now: Callable[[], float] = monotonic) -> None:
        """per_s: tokens that a bucket gets a second. burst: tokens of a full bucket."""
        self._per_s = per_s
        self._burst = burst
        self._now = now
        self._buckets: OrderedDict[str, tuple[float, float]] = OrderedDict()

    def wait_s(self, key: str) -> int:
        """Whole seconds until *key* has a token; 0 if it has one."""
        left = self._left(key)
        return 0 if left >= 1 else max(1, math.ceil((1 - left) / self._per_s))

    def charge(self, key: str) -> None:
        """Take a token, even if there is none: requests at the same time may overdraw a bucket by at most its size."""
        self._buckets[key] = (max(self._left(key) - 1, -self._burst), self._now())
        self._buckets.move_to_end(key)
        if len(self._buckets) > _MAX_BUCKETS:
            self._buckets.popitem(last=False)

    def _left(self, key: str) -> float:
        if key not in self._buckets:
            return self._burst
        left, at = self._buckets[key]
        return min(self._burst, left + (self._now() - at) * self._per_s)

    def __len__(self) -> int:
        return len(self._buckets)


def address_key(host: str) -> str:
    """The part of an address that a caller cannot choose freely: IPv4 whole, IPv6 its /64."""
    try:
        address = ip_address(host.partition("%")[0])
    except ValueError:
        return host[:64]
    if not isinstance(address, IPv6Address):
        return str(address)
    if address.ipv4_mapped is not None:
        return str(address.ipv4_mapped)
    return str(IPv6Address(int(address) >> _IPV6_PREFIX << _IPV6_PREFIX))
