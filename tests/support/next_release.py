"""A fictitious next release: its schema has one more migration."""

import shutil
from pathlib import Path
from types import SimpleNamespace

import pytest

import migrations
from coordinator.database import migrate as module

REVISION = "2"
_MIGRATION = """
import sqlalchemy as sa
from alembic import op

revision, down_revision, branch_labels, depends_on = {revision!r}, {head!r}, None, None


def upgrade():
    op.add_column("tokens", sa.Column("color", sa.String(10), nullable=False, server_default="blue"))
"""


def install(folder: Path, head: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Make the code act as the next release. folder: empty. head: schema revision of this release."""
    package = folder / "migrations"
    shutil.copytree(Path(migrations.__file__).parent, package)
    (package / "versions" / "0002_next.py").write_text(_MIGRATION.format(revision=REVISION, head=head))
    monkeypatch.setattr(module, "migrations", SimpleNamespace(__file__=str(package / "__init__.py")))
