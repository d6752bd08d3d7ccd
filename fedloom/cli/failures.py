"""How failures are told: a line that says what to do, and an exit code that scripts can branch on."""

from enum import IntEnum

import typer

from fedloom import errors


class ExitCode(IntEnum):
    """What the command's end means."""

    DONE = 0
    FAILED = 1
    USAGE = 2
    UNREACHABLE = 3
    NOT_ALLOWED = 4
    NOT_FOUND = 5


_CODES: list[tuple[type[Exception], ExitCode]] = [
    (errors.Unreachable, ExitCode.UNREACHABLE),
    (errors.InsecureUrl, ExitCode.USAGE),
    (errors.Invalid, ExitCode.USAGE),
    (errors.MalformedKey, ExitCode.NOT_ALLOWED),
    (errors.Unauthenticated, ExitCode.NOT_ALLOWED),
    (errors.Forbidden, ExitCode.NOT_ALLOWED),
    (errors.NotFound, ExitCode.NOT_FOUND),
    (errors.NoSuchAdapter, ExitCode.NOT_FOUND),
    (errors.BadAdapterFolder, ExitCode.USAGE),
    (errors.SimulationError, ExitCode.USAGE),
    (errors.PartitionError, ExitCode.USAGE),
    (errors.TrialFailed, ExitCode.FAILED),
    (errors.ComparisonError, ExitCode.USAGE),
]


def tell(error: errors.FedloomError | OSError) -> ExitCode:
    """Print an error to stderr and return its exit code."""
    typer.echo(f"fedloom: {_text(error)}", err=True)
    return next((code for kind, code in _CODES if isinstance(error, kind)), ExitCode.FAILED)


def _text(error: errors.FedloomError | OSError) -> str:
    match error:
        case errors.Unauthenticated():
            return "the coordinator does not know this key; give the operator's with --key or FEDLOOM_KEY"
        case errors.Forbidden():
            return f"{error}; this needs the operator's key (--key or FEDLOOM_KEY)"
        case errors.Invalid() if error.errors:
            return "\n  ".join(["the coordinator refused:", *(f"{one.field}: {one.message}" for one in error.errors)])
        case errors.Unreachable():
            return f"{error} (--url or FEDLOOM_URL says where it is)"
        case errors.Refused() if error.problem.request_id and error.problem.status >= 500:
            return f"{error} (request {error.problem.request_id})"
        case OSError() if error.filename is not None:
            return f"{error.filename}: {error.strerror}"
        case _:
            return str(error)
