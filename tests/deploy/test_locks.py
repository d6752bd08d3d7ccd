"""The dependencies with hashes are those of pyproject.toml, in the versions of constraints.txt."""

import re
import tomllib
from collections.abc import Iterator
from importlib.metadata import distribution
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from tests.deploy.files import DEPLOY
from tests.support.processes import ROOT

LOCKS = ["requirements.txt", "build-requirements.txt"]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())


def entries(path: Path) -> dict[str, tuple[Requirement, list[str]]]:
    """The requirements of a lock by name, each with the digests of its files."""
    found = {}
    for entry in re.sub(r" \\\n +", " ", path.read_text()).splitlines():
        if entry.startswith("#"):
            continue
        requirement, *hashes = entry.split(" --hash=")
        parsed = Requirement(requirement)
        found[canonicalize_name(parsed.name)] = (parsed, hashes)
    return found


def version(requirement: Requirement) -> str:
    [pin] = requirement.specifier
    assert pin.operator == "=="
    return pin.version


@pytest.mark.parametrize("name", LOCKS)
def test_every_requirement_has_one_version_and_hashes(name: str) -> None:
    for requirement, hashes in entries(DEPLOY / name).values():
        assert version(requirement)
        assert hashes
        assert all(re.fullmatch(r"sha256:[0-9a-f]{64}", each) for each in hashes)


@pytest.mark.parametrize("name", LOCKS)
def test_versions_are_those_of_the_tests(name: str) -> None:
    """Run `make deploy-lock` after a change of constraints.txt."""
    lines = (ROOT / "constraints.txt").read_text().splitlines()
    constraints = {canonicalize_name(line.split("==")[0]): line.split("==")[1] for line in lines if line[:1] != "#"}
    here = {
        name: version(requirement)
        for name, (requirement, _) in entries(DEPLOY / name).items()
        if requirement.marker is None or requirement.marker.evaluate({"sys_platform": "linux"})
    }
    assert here == {name: constraints[name] for name in here}


def test_the_lock_holds_what_a_coordinator_needs_and_nothing_else() -> None:
    """Run `make deploy-lock` after a change of pyproject.toml."""
    needed = [*PROJECT["project"]["dependencies"], *PROJECT["project"]["optional-dependencies"]["coordinator"]]
    locked = entries(DEPLOY / "requirements.txt")
    for requirement in map(Requirement, needed):
        assert version(locked[canonicalize_name(requirement.name)][0]) in requirement.specifier
    linux = {name for name, (each, _) in locked.items() if each.marker is None or each.marker.evaluate()}
    assert linux == set(closure(needed))


def test_the_build_lock_holds_what_builds_the_wheel() -> None:
    locked = entries(DEPLOY / "build-requirements.txt")
    for requirement in map(Requirement, PROJECT["build-system"]["requires"]):
        assert version(locked[canonicalize_name(requirement.name)][0]) in requirement.specifier


def closure(requirements: list[str]) -> Iterator[str]:
    """The names of these requirements and of all that they need, by the metadata of what is installed."""
    seen: set[tuple[str, str]] = set()
    todo = [(requirement, "") for requirement in requirements]
    while todo:
        text, extra = todo.pop()
        requirement = Requirement(text)
        if requirement.marker is not None and not requirement.marker.evaluate({"extra": extra}):
            continue
        name = canonicalize_name(requirement.name)
        for wanted in ("", *requirement.extras):
            if (name, wanted) not in seen:
                seen.add((name, wanted))
                todo += [(each, wanted) for each in distribution(name).requires or []]
    return iter({name for name, _ in seen})
