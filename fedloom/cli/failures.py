"""Error messages, which name what to do, and exit codes for scripts."""

from enum import IntEnum

import typer

from fedloom import errors


class ExitCode(IntEnum):
    """Exit code of the command."""

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


def report(error: errors.FedloomError | OSError) -> ExitCode:
    """Print an error to stderr and return its exit code."""
    typer.echo(f"fedloom: {_text(error)}", err=True)
    return next((code for kind, code in _CODES if isinstance(error, kind)), ExitCode.FAILED)


def _text(error: errors.FedloomError | OSError) -> str:
    match error:
        case errors.MissingKey():
            return "no key: set FEDLOOM_KEY or --key to the operator's key"
        case errors.MalformedKey():
            return f"{error} (FEDLOOM_KEY or --key)"
        case errors.Unauthenticated():
            return "unknown key: set FEDLOOM_KEY or --key to a key of this coordinator's operator"
        case errors.Forbidden():
            return "this key is an agent's secret: set FEDLOOM_KEY or --key to the operator's key"
        case errors.Invalid() if error.errors:
            fields = (f"{detail.field}: {detail.message}" for detail in error.errors)
            return "\n  ".join(["the coordinator refused the request:", *fields])
        case errors.Unreachable():
            return f"{error} (FEDLOOM_URL or --url)"
        case errors.Refused() if error.problem.request_id and error.problem.status >= 500:
            return f"{error} (request {error.problem.request_id})"
        case OSError() if error.filename is not None:
            return f"{error.filename}: {error.strerror}"
        case _:
            return str(error)
