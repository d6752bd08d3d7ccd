"""The settings of a coordinator that a command runs."""

from typing import Any

from pydantic import ValidationError
from pydantic_settings import SettingsError

from coordinator.settings import Settings
from fedloom.errors import BadEnvironment
from fedloom.unread_variables import check_names
from shared.wire.words import problems_in_words


def coordinator_settings(**given: Any) -> Settings:
    """Return the settings of the environment, with those given in their place.

    Raises BadEnvironment. A variable FEDLOOM_… that nothing reads is logged, or refused if it can only be a setting.
    """
    prefix = Settings.model_config.get("env_prefix", "")
    check_names(Settings, prefix)
    try:
        return Settings(**given)
    except ValidationError as error:
        problems = (problem.partition(": ") for problem in problems_in_words(error))
        lines = (f"{prefix}{place.replace(' ', '__').upper()}: {message}" for place, _, message in problems)
        raise BadEnvironment("; ".join(lines)) from error
    except SettingsError as error:
        raise BadEnvironment(f"a variable {prefix}…: {error}") from error
