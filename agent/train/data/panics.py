"""A panic of a tokenizer's Rust code as an error, so that it concerns a row and does not end the process."""

from collections.abc import Iterator
from contextlib import contextmanager

_PANIC = "PanicException"  # of pyo3_runtime, which cannot be imported


class TokenizerPanicError(RuntimeError):
    """The tokenizer panicked. Its own message may quote a row."""


@contextmanager
def panics_as_errors() -> Iterator[None]:
    """Raise TokenizerPanicError in place of a panic, which is no Exception and passes every handler of those."""
    try:
        yield
    except BaseException as error:
        if type(error).__name__ != _PANIC:
            raise
        raise TokenizerPanicError from error
