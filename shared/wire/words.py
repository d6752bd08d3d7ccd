"""Says in words what is wrong with a message that a person's input went into."""

from pydantic import ValidationError
from pydantic_core import ErrorDetails

from shared.text.labels import NAME_PATTERN, NAME_RULE
from shared.wire.base import ID_PATTERN, SHA256_PATTERN

_PATTERNS = {
    NAME_PATTERN: NAME_RULE,
    ID_PATTERN: "not an id: only letters, digits and '-', at most 64 of them",
    SHA256_PATTERN: "not a SHA-256 digest: 64 of the digits 0 to 9 and a to f",
}


def problems_in_words(error: ValidationError) -> list[str]:
    """Each problem as ``FIELD: MESSAGE``. The values are left out: one may be a secret."""
    details = error.errors(include_url=False, include_input=False)
    return [
        f"{' '.join(str(part) for part in detail['loc'] if part != '[key]')}: {_message(detail)}" for detail in details
    ]


def _message(detail: ErrorDetails) -> str:
    limits = detail.get("ctx", {})
    match detail["type"]:
        case "string_pattern_mismatch":
            return pattern_in_words(detail)
        case "string_too_short" | "too_short" if limits.get("field_type", "Value") == "Value":
            return f"needs at least {limits['min_length']} characters"
        case "string_too_long" | "too_long" if limits.get("field_type", "Value") == "Value":
            return f"takes at most {limits['max_length']} characters"
    message = detail["msg"].removeprefix("Value error, ")
    return message[:1].lower() + message[1:]


def pattern_in_words(detail: ErrorDetails) -> str:
    """What a text must look like that does not have the form of its field."""
    pattern = detail["ctx"]["pattern"]
    return _PATTERNS.get(pattern, f"not a text of the form {pattern}")
