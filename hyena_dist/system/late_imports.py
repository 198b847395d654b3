"""Calls that wait for the import of another package's module, and do not import it themselves."""

import sys
from collections.abc import Callable, Sequence
from importlib import import_module
from importlib.machinery import ModuleSpec, PathFinder
from types import ModuleType

_AFTER: dict[str, str] = {}


def when_imported(module: str, call: str) -> None:
    """Call a function once a module is there: now, if it has been imported, else at the end of its import.

    Args:
        module: its full name.
        call: a function without arguments, as "package.module:function", whose module is imported then.
    """
    if module in sys.modules:
        _function(call)()
        return
    _AFTER[module] = call
    if _Watch not in sys.meta_path:
        sys.meta_path.insert(0, _Watch)


class _Watch:
    """Finds the watched modules as Python does, and adds to their execution what is done after it."""

    @staticmethod
    def find_spec(name: str, path: Sequence[str] | None, target: ModuleType | None = None) -> ModuleSpec | None:
        call = _AFTER.pop(name, None)
        spec = PathFinder.find_spec(name, path, target) if call else None
        if call and spec is not None and spec.loader is not None:
            spec.loader.exec_module = _then(spec.loader.exec_module, call)  # type: ignore
        return spec


def _then(execute: Callable[[ModuleType], None], call: str) -> Callable[[ModuleType], None]:
    def both(module: ModuleType) -> None:
        execute(module)
        _function(call)()

    return both


def _function(call: str) -> Callable[[], None]:
    module, _, name = call.partition(":")
    found: Callable[[], None] = getattr(import_module(module), name)
    return found
