"""The folder of evaluation data, laid out as users lay it out."""

from pathlib import Path

import pytest

from tests.real.conftest import SHARED

SLICES = SHARED / "data" / "eval"


@pytest.fixture(scope="session")
def phrase_bank(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the Financial PhraseBank."""
    folder = tmp_path_factory.mktemp("evaluation")
    (folder / "fpb").symlink_to(SHARED / "data" / "finance" / "fpb")
    return folder
