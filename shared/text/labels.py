"""Names, and labels of agents as people write them: ``NAME=VALUE``."""

import re

NAME = r"[A-Za-z0-9][A-Za-z0-9._-]{0,62}"
"""The form of every name: of campaigns, agents, data, labels and layers."""
NAME_PATTERN = f"^{NAME}$"
NAME_RULE = "only letters, digits, '.', '_' and '-', at most 63 of them, the first a letter or a digit"
"""The same in words."""


def read_label(text: str) -> tuple[str, str]:
    """The name and the value of a label. Raises ValueError, which says what to write."""
    name, equals, value = text.partition("=")
    if not equals or not re.fullmatch(NAME, name):
        message = f"{text!r} is not a label; write NAME=VALUE, the name in letters, digits, '.', '_' and '-'"
        raise ValueError(message)
    return name, value
