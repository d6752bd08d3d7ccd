"""The one place where errors of commands become a message and an exit code for scripts."""

import sys
import traceback
from enum import IntEnum

import typer

from fedloom import errors
from fedloom.cli import output
from fedloom.unread_variables import misspelt
from shared.credentials import without_secrets
from shared.text.plain_text import visible_line


class ExitCode(IntEnum):
    """Exit code of the command."""

    DONE = 0
    FAILED = 1
    USAGE = 2
    UNREACHABLE = 3
    NOT_ALLOWED = 4
    NOT_FOUND = 5
    UNEXPECTED = 70
    INTERRUPTED = 130


COORDINATOR_NEEDS = ("aiosqlite", "alembic", "asyncpg", "fastapi", "pydantic_settings", "sqlalchemy", "uvicorn")
"""Modules of the extra ``coordinator``; the other commands do not need them."""

_CODES: list[tuple[type[Exception], ExitCode]] = [
    (errors.Unreachable, ExitCode.UNREACHABLE),
    (errors.InsecureUrl, ExitCode.USAGE),
    (errors.BadEnvironment, ExitCode.USAGE),
    (errors.InvalidOption, ExitCode.USAGE),
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
    (errors.EvaluationError, ExitCode.USAGE),
    (errors.BadDatabase, ExitCode.USAGE),
    (errors.DatabaseUnreachable, ExitCode.UNREACHABLE),
]
_AGENT_CODES = {
    "CoordinatorUnreachable": ExitCode.UNREACHABLE,
    "InsecureCoordinator": ExitCode.USAGE,
    "SettingsError": ExitCode.USAGE,
    "BadEnvironment": ExitCode.USAGE,
    "InvalidOption": ExitCode.USAGE,
    "UnknownCampaign": ExitCode.NOT_FOUND,
    "NotTakenPart": ExitCode.NOT_FOUND,
}


def report(error: Exception, *, debug: bool) -> ExitCode:
    """Print an error to stderr and return its exit code. debug: print its traceback too."""
    if debug:
        output.say(without_secrets("".join(traceback.format_exception(error))), err=True, nl=False)
    if isinstance(error, typer.Abort):
        return ExitCode.INTERRUPTED
    if hasattr(error, "format_message") and hasattr(error, "exit_code"):
        return _report_usage(error, error.format_message(), error.exit_code)
    code = _expected(error)
    text = _text(error) if code is not None else _unexpected(error, debug=debug)
    # each problem of a file is a line that begins with the file, as editors read them
    prefix = "" if _is(error, "shared.campaign.file", "CampaignFileError") else "fedloom: "
    output.say(f"{prefix}{without_secrets(text)}", err=True)
    return ExitCode.UNEXPECTED if code is None else code


def _report_usage(error: Exception, message: str, code: int) -> ExitCode:
    """Print typer's error about the command line; its classes have no public base."""
    if message:  # without one, the help was printed
        context = getattr(error, "ctx", None)
        hint = f"; see {context.command_path} --help" if context is not None else ""
        words = visible_line(message).replace(": Value error, ", ": ", 1)  # pydantic's, of an option that it parses
        output.say(f"fedloom: {without_secrets(words).rstrip('.')}{hint}", err=True)
    return ExitCode(code)


def _expected(error: Exception) -> ExitCode | None:
    """The exit code of an error that is raised on purpose. None for others."""
    if isinstance(error, errors.FedloomError):
        return next((code for kind, code in _CODES if isinstance(error, kind)), ExitCode.FAILED)
    if _is(error, "shared.campaign.file", "CampaignFileError"):
        return ExitCode.USAGE
    if _is(error, "agent.errors", "AgentError"):
        return _agent_code(error)
    if isinstance(error, OSError | MemoryError) or _is(error, "coordinator.errors", "CoordinatorError"):
        return ExitCode.FAILED
    if isinstance(error, UnicodeEncodeError):
        return ExitCode.USAGE
    missing = isinstance(error, ModuleNotFoundError) and error.name in COORDINATOR_NEEDS
    return ExitCode.FAILED if missing else None


def _is(error: Exception, module: str, name: str) -> bool:
    """Whether an error is of a class whose module need not be loaded."""
    loaded = sys.modules.get(module)
    return loaded is not None and isinstance(error, getattr(loaded, name))


def _agent_code(error: Exception) -> ExitCode:
    problem = getattr(error, "problem", None)
    if problem is not None and problem.status in (401, 403):
        return ExitCode.NOT_ALLOWED
    names = (kind.__name__ for kind in type(error).__mro__)
    return next((_AGENT_CODES[name] for name in names if name in _AGENT_CODES), ExitCode.FAILED)


def _text(error: Exception) -> str:
    match error:
        case errors.MissingKey():
            hint = misspelt("FEDLOOM_KEY_FILE") or misspelt("FEDLOOM_KEY")
            return f"no key: set FEDLOOM_KEY to the operator's key, or FEDLOOM_KEY_FILE to its file{hint}"
        case errors.MalformedKey():
            return f"{error} (FEDLOOM_KEY, or the file FEDLOOM_KEY_FILE)"
        case errors.Unauthenticated():
            return (
                "unknown key: set FEDLOOM_KEY to a key of this coordinator's operator, or FEDLOOM_KEY_FILE to its file"
            )
        case errors.Forbidden():
            return (
                "this key is an agent's secret: set FEDLOOM_KEY to the operator's key, or FEDLOOM_KEY_FILE to its file"
            )
        case errors.Invalid() if error.errors:
            fields = (f"{detail.field}: {detail.message}" for detail in error.errors)
            return "\n  ".join(["the coordinator refused the request:", *fields])
        case errors.Unreachable() | errors.BadUrl():
            return f"{error} (FEDLOOM_URL or --url)"
        case errors.Refused() if error.problem.request_id and error.problem.status >= 500:
            return f"{error} (request {error.problem.request_id})"
        case errors.InsecureUrl() | errors.FolderNotEmpty():  # a person gives options, not arguments
            return str(error).replace("insecure=True", "--insecure").replace("force=True", "--force")
        case OSError() if error.filename is not None:
            return f"{error.filename}: {error.strerror}"
        case UnicodeEncodeError():
            return "a value holds bytes that are not UTF-8 text"
        case OSError() if error.strerror:
            return error.strerror
        case MemoryError():
            return "this machine has not enough free memory"
        case ModuleNotFoundError():
            return f"{error.name} is not installed; run: pip install 'fedloom[coordinator]'"
        case _:
            return str(error)


def _unexpected(error: Exception, *, debug: bool) -> str:
    """One line for an error that nobody foresaw. Of invalid values only the places: the values may be secrets."""
    words = str(error).strip().splitlines()
    if _is(error, "pydantic_core", "ValidationError"):
        places = (".".join(map(str, detail["loc"])) or "it" for detail in error.errors())  # type: ignore[attr-defined]
        words = [f"{error.title}: invalid {', '.join(dict.fromkeys(places))}"]  # type: ignore[attr-defined]
    what = f"{type(error).__name__}: {words[0]}" if words else type(error).__name__
    hint = "" if debug else "; run again with --debug to see where"
    return f"unexpected error: {visible_line(what)}{hint}"
