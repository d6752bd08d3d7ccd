"""Numbers in words."""

from collections.abc import Sequence


def in_ranges(numbers: Sequence[int]) -> str:
    """Ascending numbers, consecutive ones as ranges: "0, 4-6"; empty if there are none."""
    runs: list[list[int]] = []
    for number in numbers:
        if runs and number == runs[-1][-1] + 1:
            runs[-1].append(number)
        else:
            runs.append([number])
    return ", ".join(str(run[0]) if len(run) == 1 else f"{run[0]}-{run[-1]}" for run in runs)
