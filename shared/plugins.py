"""Plug-ins: modules found by name, those of a package and those that installed distributions add."""

import importlib
import logging
import pkgutil
from collections.abc import Sequence
from functools import cached_property
from importlib.metadata import EntryPoint, entry_points
from types import ModuleType

log = logging.getLogger(__name__)


class PluginUnavailable(LookupError):
    """A plug-in cannot be used here."""


class UnknownPlugin(PluginUnavailable):
    """No plug-in has this name. ``known`` lists the existing names."""

    def __init__(self, what: str, name: str, known: list[str]) -> None:
        self.name = name
        self.known = known
        super().__init__(f"unknown {what} {name!r}; known are {', '.join(known)}")


class BrokenPlugin(PluginUnavailable):
    """A plug-in is installed, but cannot be loaded or breaks the interface. reason: without paths of the machine."""

    def __init__(self, what: str, name: str, reason: str) -> None:
        self.name = name
        self.reason = reason
        super().__init__(f"the {what} {name!r} is installed but cannot be used: {reason}")


class Plugins:
    """The plug-ins of one sort.

    Args:
        what: the sort in messages, such as "algorithm".
        package: the package whose modules are the bundled plug-ins.
        group: the entry point group whose entries name further modules.
        parts: the names that each module defines.
        internal: modules of the package that are not plug-ins, nor are those that begin with "_".
    """

    def __init__(
        self, what: str, *, package: str, group: str, parts: Sequence[str], internal: Sequence[str] = ("base",)
    ) -> None:
        self.what = what
        self.group = group
        self._package = package
        self._parts = parts
        self._internal = internal

    @cached_property
    def bundled(self) -> frozenset[str]:
        """The names of the plug-ins that come with Fedloom."""
        modules = (module.name for module in pkgutil.iter_modules(importlib.import_module(self._package).__path__))
        return frozenset(name for name in modules if name not in self._internal and not name.startswith("_"))

    @cached_property
    def installed(self) -> dict[str, EntryPoint]:
        """The entry points of installed plug-ins, by name."""
        return {entry.name: entry for entry in entry_points(group=self.group)}

    def names(self) -> list[str]:
        """The names of all bundled and installed plug-ins, sorted."""
        return sorted(self.bundled | set(self.installed))

    def module(self, name: str) -> ModuleType:
        """Import the plug-in with this name. A bundled one takes precedence. Raises UnknownPlugin and BrokenPlugin."""
        if name in self.bundled:
            return importlib.import_module(f"{self._package}.{name}")
        if name not in self.installed:
            raise UnknownPlugin(self.what, name, self.names())
        try:
            module: ModuleType = self.installed[name].load()
        except (Exception, SystemExit) as error:  # a plug-in does not end the process that looks at it
            log.exception("the %s %s cannot be loaded", self.what, name)
            raise self.broken(name, f"loading it ended in {type(error).__name__}; the log has the reason") from error
        if missing := [part for part in self._parts if not hasattr(module, part)]:
            raise self.broken(name, f"its module has no {', '.join(missing)}")
        return module

    def broken(self, name: str, reason: str) -> BrokenPlugin:
        """The error of a plug-in that breaks the interface."""
        return BrokenPlugin(self.what, name, reason)
