"""Why items do not count, by reason: those that need too many positions are one reason, however many each needs."""

import re
from collections import Counter
from collections.abc import Iterable

_NEEDS = re.compile(r"needs (\d+) positions(.*)", re.DOTALL)


def counts_by_reason(problems: Iterable[str]) -> dict[str, int]:
    """The number of items with each reason, the most frequent first.

    >>> counts_by_reason(["no label", *(f"needs {n} positions, and the model has 2" for n in (4, 3))])
    {'needs 3 to 4 positions, and the model has 2': 2, 'no label': 1}
    """
    counts: Counter[str] = Counter()
    needed: dict[str, list[int]] = {}
    for problem in problems:
        if found := _NEEDS.fullmatch(problem):
            needed.setdefault(found[2], []).append(int(found[1]))
        else:
            counts[problem] += 1
    for rest, numbers in needed.items():
        low, high = min(numbers), max(numbers)
        span = str(low) if low == high else f"{low} to {high}"
        counts[f"needs {span} positions{rest}"] += len(numbers)
    return dict(counts.most_common())
