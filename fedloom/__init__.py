"""Fedloom from Python: the client of a coordinator, what can go wrong, and the campaign file's model.

>>> from fedloom import Client
>>> with Client() as client:  # FEDLOOM_URL, FEDLOOM_KEY
...     print(client.health().status)
"""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from fedloom import errors
    from fedloom.client import Client
    from shared.campaign import CampaignSpec

    __version__: str

__all__ = ["CampaignSpec", "Client", "__version__", "errors"]

_HOMES = {"CampaignSpec": "shared.campaign", "Client": "fedloom.client"}


def __getattr__(name: str) -> Any:
    # on first use, so that `fedloom --help` waits neither for httpx nor for numpy
    if name == "__version__":
        value: Any = importlib.import_module("importlib.metadata").version("fedloom")
    elif name == "errors":
        value = importlib.import_module("fedloom.errors")
    elif name in _HOMES:
        value = getattr(importlib.import_module(_HOMES[name]), name)
    else:
        message = f"module {__name__!r} has no attribute {name!r}"
        raise AttributeError(message)
    globals()[name] = value
    return value
