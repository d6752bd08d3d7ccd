"""Fedloom from Python: the coordinator's client, its errors, and the model of the campaign file.

>>> from fedloom import Client
>>> with Client() as client:  # FEDLOOM_URL, and FEDLOOM_KEY or FEDLOOM_KEY_FILE
...     print(client.health().status)
"""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from fedloom import errors
    from fedloom.client import Client
    from fedloom.evaluation.api import evaluate
    from shared.campaign.spec import CampaignSpec

    __version__: str

__all__ = ["CampaignSpec", "Client", "__version__", "errors", "evaluate"]

_MODULES = {"CampaignSpec": "shared.campaign.spec", "Client": "fedloom.client", "evaluate": "fedloom.evaluation.api"}


def __getattr__(name: str) -> Any:
    # imported on first use: `fedloom --help` needs neither httpx nor numpy
    if name == "__version__":
        value: Any = importlib.import_module("importlib.metadata").version("fedloom")
    elif name == "errors":
        value = importlib.import_module("fedloom.errors")
    elif name in _MODULES:
        value = getattr(importlib.import_module(_MODULES[name]), name)
    else:
        message = f"module {__name__!r} has no attribute {name!r}"
        raise AttributeError(message)
    globals()[name] = value
    return value
