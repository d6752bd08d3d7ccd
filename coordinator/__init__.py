"""The REST service and the round engine. It needs neither torch nor transformers."""

__version__ = "0.1.0"
