"""SHA-256 of published files that are known whole: examples before the questions, which an edit would change unseen."""

import json
from functools import cache
from importlib.resources import files


def known(path: str) -> tuple[str, ...]:
    """The digests of a file's known editions, by its path below the folder of data; empty if there is none."""
    return tuple(_digests().get(path, ()))


@cache
def _digests() -> dict[str, list[str]]:
    found: dict[str, list[str]] = json.loads(files(__package__).joinpath("known_files.json").read_text())
    return found
