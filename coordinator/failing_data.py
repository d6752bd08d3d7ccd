"""Says what failed because of a campaign's data, without the data: the words are shown to everybody who may look at it.

The same data fails again, so such a campaign is paused.
"""

import traceback
from pathlib import Path

from pydantic import ValidationError

from coordinator.errors import CoordinatorError
from shared.text.unsafe import one_line

_MAX_CHARACTERS = 300
_MAX_PLACES = 3


def words_of(error: Exception) -> str:
    """The type of an error, and where in the code and in the data it arose, in one line that quotes no value."""
    if isinstance(error, CoordinatorError):  # written for a reader
        return one_line(str(error), _MAX_CHARACTERS)
    frames = [each for each in traceback.extract_tb(error.__traceback__) if "pydantic" not in Path(each.filename).parts]
    place = f"{Path(frames[-1].filename).name}:{frames[-1].lineno}" if frames else "an unknown place"
    words = f"{type(error).__name__} at {place}"
    if isinstance(error, ValidationError):
        words += f": {_places(error)}"
    return one_line(words, _MAX_CHARACTERS)


def _places(error: ValidationError) -> str:
    """The first fields that are wrong, each with the type of its error, and the number of the others."""
    found = error.errors(include_url=False, include_input=False, include_context=False)
    places = [f"{'.'.join(map(str, each['loc'])) or 'the whole'} ({each['type']})" for each in found[:_MAX_PLACES]]
    more = f", and {len(found) - _MAX_PLACES} more" if len(found) > _MAX_PLACES else ""
    return ", ".join(places) + more
