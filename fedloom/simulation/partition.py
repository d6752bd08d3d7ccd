"""Splits the rows of one data set among simulated clients.

For every kind of partition, each row goes to exactly one client, each client gets at least one row, and equal seeds
give equal partitions.
"""

import json
from collections.abc import Iterable, Mapping, Sequence
from heapq import heapify, heapreplace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fedloom.errors import PartitionError
from fedloom.simulation.partition_plan import PartitionKind, PartitionPlan
from shared.text.unsafe import shorten

MIN_ROWS = 10
"""Smallest client of a skewed partition, if there are enough rows (as in Li et al. 2022)."""

_STREAM = 0
"""Spawn key of the partition's random numbers. ``default_rng(seed)`` without it is the stream that shuffles client 0's
rows."""


def values_of(records: Iterable[tuple[str, Mapping[str, Any]]], column: str) -> list[str]:
    """The value in *column* of each record, as text; numbers and booleans as JSON spells them.

    records: pairs of a record's place in the file and the record. Raises PartitionError, which names the place, if a
    record has no such value.
    """
    return [_value(place, record, column) for place, record in records]


def _value(place: str, record: Mapping[str, Any], column: str) -> str:
    if column not in record:
        columns = ", ".join(repr(shorten(name, 60)) for name in list(record)[:20]) or "none"
        raise PartitionError(f"{place} has no column {column!r}; its columns are {columns}")
    value = record[column]
    if value is None or (isinstance(value, str) and not value.strip()):
        raise PartitionError(f"{place}: the column {column!r} is empty; give each row a value, or use another column")
    if isinstance(value, str):
        return value
    if not isinstance(value, bool | int | float):
        raise PartitionError(f"{place}: the column {column!r} holds a {type(value).__name__}, not a single value")
    return json.dumps(value)


def assign(
    plan: PartitionPlan, *, n_rows: int, n_clients: int, seed: int, values: Sequence[str] | None = None
) -> list[NDArray[np.int64]]:
    """Assign each row to a client. Returns for each client the indices of its rows, ascending.

    Args:
        seed: At least 0.
        values: For each row its value in the column ``plan.by``. None if the plan uses no column.

    Raises PartitionError if there are too few rows, ValueError if the values do not fit the plan or the rows.
    """
    if (values is None) != (plan.by is None) or (values is not None and len(values) != n_rows):
        message = "values: one for each row if the plan has a column, otherwise None"
        raise ValueError(message)
    if n_clients < 1:
        raise PartitionError("there must be at least one client")
    if n_rows < n_clients:
        raise PartitionError(f"{n_rows} rows are not enough for {n_clients} clients; ask for fewer clients")
    rng = np.random.default_rng(np.random.SeedSequence(seed, spawn_key=(_STREAM,)))
    names = sorted(set(values or ()))
    number = {name: k for k, name in enumerate(names)}
    codes = np.array([number[value] for value in values], np.int64) if values else np.zeros(n_rows, np.int64)
    match plan.kind:
        case PartitionKind.IID:
            owner = rng.permutation(np.arange(n_rows) % n_clients)
        case PartitionKind.DIRICHLET | PartitionKind.QUANTITY:
            assert plan.alpha is not None
            owner = _dirichlet(codes, plan.alpha, n_clients, rng)
        case PartitionKind.KEY:
            if len(names) < n_clients:
                raise PartitionError(
                    f"the column {plan.by!r} has {len(names)} values, too few for {n_clients} clients; "
                    f"ask for at most {len(names)} clients"
                )
            owner = _whole_keys(codes, n_clients, rng)
        case PartitionKind.DOMAIN:
            if len(names) > n_clients:
                raise PartitionError(
                    f"the column {plan.by!r} has {len(names)} domains, too many for {n_clients} clients of one domain "
                    f"each; ask for at least {len(names)} clients"
                )
            owner = _one_domain_each(codes, names, n_clients, rng)
    return [np.flatnonzero(owner == client) for client in range(n_clients)]


def _dirichlet(labels: NDArray[np.int64], alpha: float, n_clients: int, rng: np.random.Generator) -> NDArray[np.int64]:
    """The client of each row, (n_rows,): each label is split in Dir(alpha) shares. labels: (n_rows,), from 0.

    This is the per-label form of Yurochkin et al. 2019 (arXiv 1905.12022): p_k ~ Dir_N(alpha), and client i gets the
    part p_ki of label k. It skews the clients' sizes too. Hsu, Qi and Brown 2019 (arXiv 1909.06335) draw a mix of
    labels for each client instead, and all clients have equal sizes. With a single label it is the quantity skew of
    Li et al. 2022 (arXiv 2102.02079): q ~ Dir_N(alpha), and client i gets the part q_i of all rows.

    Li et al. repeat the whole draw until the smallest client has MIN_ROWS. With 100 clients that may never happen
    (50,000 rows, 3 labels, alpha 0.1: in none of 1,000 draws), so here clients below the minimum are filled up.
    """
    n_of_label = np.bincount(labels)  # (K,)
    wanted = rng.dirichlet(np.full(n_clients, alpha), size=len(n_of_label)) * n_of_label[:, None]  # (K, N)
    # Rounding the running sum keeps each label's total. Its random start makes the rounding unbiased: with the usual
    # rounding, the one row of a rare label would always go to the same client.
    edges = np.zeros((len(wanted), n_clients + 1), np.int64)
    edges[:, 1:] = np.floor(np.cumsum(wanted, axis=1) + rng.random((len(wanted), 1))).clip(max=n_of_label[:, None])
    edges[:, -1] = n_of_label
    counts = edges[:, 1:] - edges[:, :-1]
    _fill_up(counts, wanted, max(1, min(MIN_ROWS, len(labels) // (2 * n_clients))), rng)
    order = rng.permutation(len(labels))
    order = order[np.argsort(labels[order], kind="stable")]  # shuffled within each label
    owner = np.empty(len(labels), np.int64)
    owner[order] = np.repeat(np.tile(np.arange(n_clients), len(n_of_label)), counts.ravel())
    return owner


def _fill_up(counts: NDArray[np.int64], wanted: NDArray[np.float64], at_least: int, rng: np.random.Generator) -> None:
    """Move rows between clients, in place, until each has *at_least* rows. counts, wanted: (K labels, N clients).

    A client below the minimum gets rows of the labels that it drew most of, so it keeps its skew. Each row comes from
    the client with most rows of that label among those above the minimum. The sum of counts must be at least
    N * at_least.
    """
    sizes = counts.sum(axis=0)
    for short in np.flatnonzero(sizes < at_least):
        # with a small alpha, shares may be 0 in floating point: the random key then decides the order of the labels
        for label in np.lexsort((rng.random(len(counts)), -wanted[:, short])):
            while sizes[short] < at_least:
                available = np.where(sizes > at_least, counts[label], 0)
                donor = available.argmax()
                if available[donor] == 0:
                    break
                for client, change in ((donor, -1), (short, 1)):
                    counts[label, client] += change
                    sizes[client] += change


def _whole_keys(keys: NDArray[np.int64], n_clients: int, rng: np.random.Generator) -> NDArray[np.int64]:
    """The client of each row, (n_rows,): rows of one key stay together. keys: (n_rows,), from 0, at least n_clients.

    The largest key first, to the client with the fewest rows (longest processing time first: Graham 1969).
    """
    n_of_key = np.bincount(keys)
    shuffled = rng.permutation(len(n_of_key))  # so that ties are in random order
    clients = [(0, place, client) for place, client in enumerate(rng.permutation(n_clients).tolist())]
    heapify(clients)
    client_of_key = np.empty(len(n_of_key), np.int64)
    for key in shuffled[np.argsort(-n_of_key[shuffled], kind="stable")].tolist():
        n_rows, place, client = clients[0]
        client_of_key[key] = client
        heapreplace(clients, (n_rows + int(n_of_key[key]), place, client))
    return client_of_key[keys]


def _one_domain_each(
    domains: NDArray[np.int64], names: Sequence[str], n_clients: int, rng: np.random.Generator
) -> NDArray[np.int64]:
    """The client of each row, (n_rows,): client i has a part of domain i mod D. domains: (n_rows,), from 0 to D - 1."""
    owner = np.empty(len(domains), np.int64)
    for domain, name in enumerate(names):
        clients = np.arange(domain, n_clients, len(names))
        rows = np.flatnonzero(domains == domain)
        if len(rows) < len(clients):
            raise PartitionError(
                f"the domain {name[:60]!r} has {len(rows)} rows, too few for {len(clients)} clients; "
                "ask for fewer clients"
            )
        owner[rows] = rng.permutation(clients[np.arange(len(rows)) % len(clients)])
    return owner
