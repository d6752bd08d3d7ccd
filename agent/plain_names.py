"""The one rule for names that files of others give to further files: plain names, which cannot leave their folder."""

import re

_PLAIN = re.compile(r"\w[\w.-]{0,200}")


def is_plain_name(name: object, suffix: str = "") -> bool:
    """Whether *name* is the plain name of a file in a folder, with no folder in it, and ends in *suffix*.

    Separators of any system, drives, dots that climb, blanks and control characters are in no such name.
    """
    return isinstance(name, str) and _PLAIN.fullmatch(name) is not None and name.endswith(suffix)
