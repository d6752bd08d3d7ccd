from collections import Counter
from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from fedloom.errors import PartitionError
from fedloom.simulation.clients import client_names
from fedloom.simulation.partition import MIN_ROWS, assign, values_of
from fedloom.simulation.partition_plan import DEFAULT_ALPHA, PartitionKind, PartitionPlan

Parts = list[NDArray[np.int64]]


def plan_of(kind: PartitionKind, alpha: float | None = None) -> PartitionPlan:
    return PartitionPlan(
        kind,
        by="topic" if kind in (PartitionKind.DIRICHLET, PartitionKind.KEY, PartitionKind.DOMAIN) else None,
        alpha=alpha if kind in (PartitionKind.DIRICHLET, PartitionKind.QUANTITY) else None,
    )


def share_out(
    kind: PartitionKind, values: Sequence[str], n_clients: int, *, alpha: float | None = None, seed: int = 1
) -> Parts:
    plan = plan_of(kind, alpha)
    return assign(
        plan, n_rows=len(values), n_clients=n_clients, seed=seed, values=values if plan.by is not None else None
    )


def sizes(parts: Parts) -> list[int]:
    return [len(part) for part in parts]


def cycled(n_rows: int, n_values: int) -> list[str]:
    return [f"v{row % n_values}" for row in range(n_rows)]


@given(
    kind=st.sampled_from(PartitionKind),
    n_clients=st.integers(1, 40),
    n_values=st.integers(1, 12),
    n_rows=st.integers(1, 400),
    alpha=st.floats(1e-6, 1e6),
    seed=st.integers(0, 2**63),
)
@settings(deadline=None, max_examples=300)
def test_each_row_goes_to_exactly_one_client_and_no_client_is_empty(
    kind: PartitionKind, n_clients: int, n_values: int, n_rows: int, alpha: float, seed: int
) -> None:
    values = cycled(n_rows, n_values)
    try:
        parts = share_out(kind, values, n_clients, alpha=alpha, seed=seed)
    except PartitionError:
        n_values = len(set(values))
        too_few_rows = n_rows < n_clients or (kind == PartitionKind.DOMAIN and n_rows < 2 * n_clients)
        assert (
            too_few_rows
            or (kind == PartitionKind.KEY and n_values < n_clients)
            or (kind == PartitionKind.DOMAIN and n_values > n_clients)
        )
        return
    assert len(parts) == n_clients
    assert min(sizes(parts)) >= 1
    assert sorted(np.concatenate(parts).tolist()) == list(range(n_rows))
    assert all((np.diff(part) > 0).all() for part in parts)


@pytest.mark.parametrize("kind", PartitionKind)
def test_the_same_seed_gives_the_same_partition_and_another_seed_another(kind: PartitionKind) -> None:
    values = cycled(600, 12)
    first, again, other = (share_out(kind, values, 12, seed=seed) for seed in (3, 3, 4))
    assert [part.tolist() for part in first] == [part.tolist() for part in again]
    if kind != PartitionKind.DOMAIN:  # with twelve domains for twelve clients, only one partition exists
        assert [part.tolist() for part in first] != [part.tolist() for part in other]


def test_iid_sizes_differ_by_one_at_most_and_labels_are_mixed() -> None:
    values = cycled(1003, 2)
    parts = share_out(PartitionKind.IID, values, 10)
    assert sorted(set(sizes(parts))) == [100, 101]
    assert all(20 < sum(values[row] == "v0" for row in part) < 80 for part in parts)


def largest_shares(values: Sequence[str], parts: Parts) -> list[float]:
    return [max(Counter(values[row] for row in part).values()) / len(part) for part in parts]


def test_dirichlet_with_small_alpha_gives_most_clients_few_labels() -> None:
    values = cycled(10_000, 10)
    assert np.median(largest_shares(values, share_out(PartitionKind.DIRICHLET, values, 20, alpha=0.05))) > 0.6
    assert np.median(largest_shares(values, share_out(PartitionKind.DIRICHLET, values, 20, alpha=100.0))) < 0.15


def test_dirichlet_with_large_alpha_gives_everybody_nearly_the_global_shares() -> None:
    values = ["common"] * 8000 + ["rare"] * 2000
    parts = share_out(PartitionKind.DIRICHLET, values, 5, alpha=1e5)
    for part in parts:
        assert len(part) == pytest.approx(2000, rel=0.05)
        assert sum(values[row] == "rare" for row in part) / len(part) == pytest.approx(0.2, abs=0.02)


def test_sizes_have_the_mean_and_the_variance_of_the_distribution() -> None:
    n_clients, alpha, n_rows, draws = 4, 2.0, 4000, 400
    shares = (
        np.array(
            [
                sizes(share_out(PartitionKind.QUANTITY, [""] * n_rows, n_clients, alpha=alpha, seed=seed))
                for seed in range(draws)
            ]
        )
        / n_rows
    )
    mean = 1 / n_clients
    variance = mean * (1 - mean) / (n_clients * alpha + 1)
    # five standard errors of the mean
    assert shares.mean(axis=0) == pytest.approx(mean, abs=5 * (variance / draws) ** 0.5)
    assert shares.var(axis=0) == pytest.approx(variance, rel=0.3)


def test_dirichlet_draws_the_shares_of_each_label_apart() -> None:
    values = cycled(4000, 2)
    parts = [share_out(PartitionKind.DIRICHLET, values, 2, alpha=1.0, seed=seed)[0] for seed in range(300)]
    shares = np.array([[np.sum(part % 2 == label) / 2000 for label in (0, 1)] for part in parts])
    assert abs(np.corrcoef(shares.T)[0, 1]) < 0.25
    assert shares.mean(axis=0) == pytest.approx(0.5, abs=0.09)  # uniform on [0, 1]: five standard errors are 0.083


def test_labels_of_one_row_each_prefer_no_client() -> None:
    parts = share_out(PartitionKind.DIRICHLET, [f"v{row}" for row in range(10_000)], 10)
    assert min(sizes(parts)) > 850
    assert max(sizes(parts)) < 1150


@pytest.mark.parametrize("kind", [PartitionKind.DIRICHLET, PartitionKind.QUANTITY])
@pytest.mark.parametrize("alpha", [1e-6, 0.1, 0.5])
@pytest.mark.parametrize(("n_rows", "at_least"), [(100, 1), (199, 1), (1000, 5), (2000, MIN_ROWS), (20_000, MIN_ROWS)])
def test_a_hundred_clients_have_rows_enough_however_skewed(
    kind: PartitionKind, alpha: float, n_rows: int, at_least: int
) -> None:
    assert min(sizes(share_out(kind, cycled(n_rows, 3), 100, alpha=alpha))) >= at_least


def test_clients_filled_up_to_the_minimum_get_rows_of_the_labels_they_drew() -> None:
    values = cycled(2000, 3)
    parts = share_out(PartitionKind.DIRICHLET, values, 100, alpha=0.1)
    filled_up = [part for part in parts if len(part) == MIN_ROWS]
    assert len(filled_up) > 40
    assert np.mean(largest_shares(values, filled_up)) > 0.93  # 0.87 with rows of any label


def test_quantity_skews_the_sizes_and_not_the_labels() -> None:
    values = ["first half"] * 10_000 + ["second half"] * 10_000
    parts = share_out(PartitionKind.QUANTITY, values, 10, alpha=0.5)
    assert max(sizes(parts)) > 10 * min(sizes(parts))
    assert all(
        abs(share - 0.5) < 0.1
        for part, share in zip(parts, largest_shares(values, parts), strict=True)
        if len(part) > 500
    )


def test_key_never_splits_a_value_and_balances_the_rows() -> None:
    values = [f"user{number}" for number in range(60) for _ in range(number + 1)]
    parts = share_out(PartitionKind.KEY, values, 7)
    owners = Counter(user for part in parts for user in {values[row] for row in part})
    assert set(owners.values()) == {1}
    assert max(sizes(parts)) - min(sizes(parts)) <= 10


def test_keys_of_one_size_are_dealt_in_random_order() -> None:
    values = cycled(200, 20)
    groups = [
        {frozenset(values[row] for row in part) for part in share_out(PartitionKind.KEY, values, 5, seed=seed)}
        for seed in (1, 2)
    ]
    assert groups[0] != groups[1]


def test_key_deals_the_largest_first() -> None:
    values = ["a"] * 7 + ["b"] * 5 + ["c"] * 4 + ["d"] * 3
    assert sorted(sizes(share_out(PartitionKind.KEY, values, 2))) == [9, 10]  # 7 + 3 and 5 + 4


def test_domain_gives_each_client_one_domain_in_turn() -> None:
    values = ["law"] * 30 + ["art"] * 50 + ["news"] * 40
    parts = share_out(PartitionKind.DOMAIN, values, 5)
    assert [{values[row] for row in part} for part in parts] == [{"art"}, {"law"}, {"news"}, {"art"}, {"law"}]
    assert sizes(parts) == [25, 15, 40, 25, 15]


@pytest.mark.parametrize(
    ("kind", "values", "n_clients", "message"),
    [
        (PartitionKind.IID, cycled(3, 1), 4, "3 rows are not enough for 4 clients"),
        (PartitionKind.IID, [], 1, "0 rows"),
        (PartitionKind.IID, cycled(3, 1), 0, "at least one client"),
        (PartitionKind.KEY, cycled(30, 3), 4, "'topic' has 3 values, too few for 4 clients; ask for at most 3"),
        (PartitionKind.DOMAIN, cycled(30, 3), 2, "'topic' has 3 domains, too many for 2 clients .* at least 3"),
        (PartitionKind.DOMAIN, ["a"] * 30 + ["b"], 4, "the domain 'b' has 1 rows, too few for 2 clients"),
    ],
)
def test_an_impossible_partition_is_refused_with_advice(
    kind: PartitionKind, values: list[str], n_clients: int, message: str
) -> None:
    with pytest.raises(PartitionError, match=message):
        share_out(kind, values, n_clients)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"kind": PartitionKind.DIRICHLET}, "dirichlet needs a column of the data: --by COLUMN"),
        ({"kind": PartitionKind.KEY, "by": ""}, "key needs a column"),
        ({"kind": PartitionKind.DOMAIN}, "domain needs a column"),
        ({"kind": PartitionKind.IID, "by": "topic"}, "iid uses no column; leave out --by"),
        ({"kind": PartitionKind.QUANTITY, "by": "topic"}, "quantity uses no column"),
        ({"kind": PartitionKind.IID, "alpha": 0.5}, "iid has no alpha; leave out --alpha"),
        ({"kind": PartitionKind.KEY, "by": "topic", "alpha": 0.5}, "key has no alpha"),
        *(
            ({"kind": PartitionKind.QUANTITY, "alpha": alpha}, "must be above 0")
            for alpha in (0, -1, np.nan, np.inf, 1e300)
        ),
    ],
)
def test_incompatible_options_are_refused(options: dict[str, Any], message: str) -> None:
    with pytest.raises(PartitionError, match=message):
        PartitionPlan(**options)


def test_alpha_has_a_default_where_it_is_needed() -> None:
    assert PartitionPlan(PartitionKind.QUANTITY).alpha == DEFAULT_ALPHA
    assert str(PartitionPlan(PartitionKind.DIRICHLET, by="topic", alpha=0.1)) == "dirichlet by topic, alpha 0.1"
    assert PartitionPlan(PartitionKind.IID).alpha is None


def test_values_that_do_not_fit_the_plan_raise_value_error() -> None:
    with pytest.raises(ValueError, match="one for each row"):
        assign(PartitionPlan(PartitionKind.IID), n_rows=2, n_clients=1, seed=0, values=["a", "b"])
    with pytest.raises(ValueError, match="one for each row"):
        assign(PartitionPlan(PartitionKind.KEY, by="topic"), n_rows=2, n_clients=1, seed=0, values=["a"])


def test_values_become_text() -> None:
    records = [(f"line {n}", {"topic": value}) for n, value in enumerate(["news", 3, 0.5, True], 1)]
    assert values_of(records, "topic") == ["news", "3", "0.5", "true"]


@pytest.mark.parametrize(
    ("record", "message"),
    [
        ({"site": "x", "text": "y"}, "line 7 has no column 'topic'; its columns are 'site', 'text'"),
        ({}, "its columns are none"),
        ({"topic": None}, "line 7: the column 'topic' is empty"),
        ({"topic": " "}, "line 7: the column 'topic' is empty"),
        ({"topic": ["news"]}, "line 7: the column 'topic' holds a list, not a single value"),
        ({"topic": {"a": 1}}, "holds a dict"),
    ],
)
def test_a_record_without_a_usable_value_is_reported_with_its_line(record: dict[str, Any], message: str) -> None:
    with pytest.raises(PartitionError, match=message):
        values_of([("line 7", record)], "topic")


@pytest.mark.parametrize("count", [1, 2, 11, 100, 101, 1200])
def test_client_names_sort_in_the_order_of_their_numbers(count: int) -> None:
    """The coordinator numbers clients in the order of their names."""
    names = client_names(count)
    assert len(set(names)) == count
    assert sorted(names) == names
    assert [int(name.removeprefix("client-")) for name in names] == list(range(count))
