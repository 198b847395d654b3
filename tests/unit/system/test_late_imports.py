"""Something is done after another's module has been imported, in whatever order, and once."""

import sys
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest

from hyena_dist.system.late_imports import when_imported


@pytest.fixture
def module(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest) -> Any:
    """The name of a module to be watched, beside one that counts what is called."""
    name = f"watched_{request.node.name.replace('[', '_').rstrip(']')}"
    (tmp_path / f"{name}.py").write_text("value = 1\n")
    lines = ["calls = []", "def called():", f"    import {name}", f"    calls.append({name}.value)"]
    (tmp_path / f"counts_{name}.py").write_text("\n".join(lines) + "\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    yield name
    for found in (name, f"counts_{name}"):
        sys.modules.pop(found, None)


@pytest.mark.parametrize("first", [True, False])
def test_before_or_after(first: bool, module: str) -> None:
    if first:
        import_module(module)
    when_imported(module, f"counts_{module}:called")
    assert (f"counts_{module}" in sys.modules) == first  # nothing is imported early
    found = import_module(module)
    import_module(module)
    assert import_module(f"counts_{module}").calls == [1]
    assert type(found.__spec__.loader).__name__ == "SourceFileLoader"


def test_a_module_that_is_not_there_stays_so(module: str) -> None:
    when_imported("nowhere_at_all", f"counts_{module}:called")
    with pytest.raises(ModuleNotFoundError):
        import_module("nowhere_at_all")
    assert f"counts_{module}" not in sys.modules
