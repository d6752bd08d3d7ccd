"""Files of one folder that are alike, as one line of a list: a set may have a file for each of its 57 subjects."""

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import PurePosixPath

from fedloom.evaluation.tasks.base import DataFile, is_for_research

_FEW = 3
"""So many files of a folder are named one by one."""


@dataclass(frozen=True)
class FileGroup:
    """Files of one folder, kind and origin; at least one."""

    files: tuple[DataFile, ...]

    @property
    def name(self) -> str:
        """The path of a file, or the pattern of several."""
        path = PurePosixPath(self.files[0].path)
        return str(path) if len(self.files) == 1 else f"{path.parent}/*{path.suffix}"

    @property
    def licence(self) -> str:
        """The licence, and whether it is for research use only."""
        licence = self.files[0].licence
        return f"{licence}, research use only" if self.is_nc else licence

    @property
    def is_nc(self) -> bool:
        """Whether the licence excludes commercial use."""
        return is_for_research(self.files[0].licence)


def groups_of(files: Iterable[DataFile]) -> list[FileGroup]:
    """Files as groups, in their order."""
    alike: dict[tuple[str, ...], list[DataFile]] = {}
    for file in files:
        path = PurePosixPath(file.path)
        alike.setdefault((str(path.parent), path.suffix, file.where, file.licence, file.instead_of), []).append(file)
    groups: list[FileGroup] = []
    for found in alike.values():
        groups += [FileGroup(tuple(found))] if len(found) > _FEW else [FileGroup((file,)) for file in found]
    return groups
