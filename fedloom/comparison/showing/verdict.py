"""What a comparison finds: the best algorithm, and which algorithms beat every client alone.

Means are compared as the table shows them: a lead that no reader can see is none.
"""

from collections.abc import Callable, Sequence

from fedloom.comparison.planning.methods import MethodKind
from fedloom.comparison.results import Results, Row


def leaders(results: Results) -> list[Row]:
    """The algorithms with the best mean of the criterion: several if they share it, none without scores."""
    return _best_of(results, [row for row in results.rows() if row.kind is MethodKind.ALGORITHM])


def best(results: Results) -> Row | None:
    """The one algorithm with the best mean. None if several share it, none has one, or every method has the same."""
    found = leaders(results)
    return found[0] if len(found) == 1 and not _all_equal(results) else None


def caption(results: Results) -> str:
    """What the star in the table means, or why there is none. Empty without scores."""
    found = leaders(results)
    if not found:
        return ""
    value = results.formatted(_mean(results, found[0]))
    if _all_equal(results):
        return f"no best algorithm: every method has {value}, so {results.ranked_by.measured_on} do not tell them apart"
    if len(found) == 1:
        return "★ best algorithm"
    return f"no best algorithm: {_listed([row.name for row in found])} share {value}"


def finding(results: Results) -> str:
    """One sentence: how many algorithms beat the best client alone. Empty without that baseline."""
    rows = results.rows()
    alone = _best_of(results, [row for row in rows if row.kind is MethodKind.ALONE])
    if not alone:
        return ""
    limit = _mean(results, alone[0])
    algorithms = [row for row in rows if row.kind is MethodKind.ALGORITHM]
    better = [row.name for row in algorithms if _beats(results, row, limit)]
    others = [row.name for row in algorithms if row.name not in better]
    clients = "client" if len(alone) == 1 else "clients"
    names = f"{_listed([row.name for row in alone])}, {results.formatted(limit)}"
    sentence = f"{len(better)} of {len(algorithms)} algorithms beat the best {clients} alone ({names})"
    return sentence + (f"; not {', '.join(others)}" if others else "")


def _all_equal(results: Results) -> bool:
    """Whether there are several means, and the table shows the same for all."""
    means = _means(results, results.rows())
    return len(means) > 1 and len(set(map(results.formatted, means))) == 1


def _best_of(results: Results, rows: Sequence[Row]) -> list[Row]:
    scored = [row for row in rows if row.mean(results.criterion) is not None]
    if not scored:
        return []
    choose: Callable[[list[float]], float] = min if results.ranked_by.lower_is_better else max
    shown = results.formatted(choose(_means(results, scored)))
    return [row for row in scored if results.formatted(_mean(results, row)) == shown]


def _beats(results: Results, row: Row, limit: float) -> bool:
    mean = row.mean(results.criterion)
    if mean is None or results.formatted(mean) == results.formatted(limit):
        return False
    return results.ranked_by.is_better(mean, limit)


def _means(results: Results, rows: Sequence[Row]) -> list[float]:
    return [mean for row in rows if (mean := row.mean(results.criterion)) is not None]


def _mean(results: Results, row: Row) -> float:
    mean = row.mean(results.criterion)
    assert mean is not None
    return mean


def _listed(names: Sequence[str]) -> str:
    *first, last = names
    return f"{', '.join(first)} and {last}" if first else last
