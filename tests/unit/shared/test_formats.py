"""Until a release, schema and protocol are rewritten in place. Their names show whether two programs agree."""

import importlib
import pkgutil

import migrations.versions
import shared.wire
from shared.wire.base import PROTOCOL
from tests.support.suite.formats import protocol_digest, schema_digest


def test_the_schemas_revision_is_that_of_its_tables() -> None:
    [name] = [each.name for each in pkgutil.iter_modules(migrations.versions.__path__)]
    revision = importlib.import_module(f"migrations.versions.{name}").revision
    assert revision == f"1_{schema_digest()}", f"set the revision in migrations/versions/{name}.py to this"


def test_the_protocols_name_is_that_of_its_messages() -> None:
    for each in pkgutil.iter_modules(shared.wire.__path__):
        importlib.import_module(f"shared.wire.{each.name}")
    assert f"1-{protocol_digest()}" == PROTOCOL, "set PROTOCOL in shared/wire/base.py to this"
