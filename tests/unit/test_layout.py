"""The order of files and imports that the import contracts cannot see."""

import ast
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest
from packaging.version import Version

ROOT = Path(__file__).parents[2]
PACKAGES = ("hyena_dist", "data_prep", "jobs")
IN_THE_ROOT = {"__init__", "__main__", "cli", "verbs", "demo", "doctor", "errors"}


def modules() -> list[Path]:
    return [path for package in PACKAGES for path in sorted((ROOT / package).rglob("*.py"))]


def imported(path: Path) -> Iterator[str]:
    """Full names of all that a file imports, also within functions, and what it hands to import_module."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield from (f"{node.module}.{alias.name}" for alias in node.names)
        elif isinstance(node, ast.Call) and ast.unparse(node.func) in ("import_module", "importlib.import_module"):
            yield from (arg.value for arg in node.args if isinstance(arg, ast.Constant))


def users_of(*names: str) -> set[str]:
    """Files that import a module of these names or something inside of it."""
    found = set()
    for path in modules():
        if any(name == wanted or name.startswith(f"{wanted}.") for name in imported(path) for wanted in names):
            found.add(str(path.relative_to(ROOT)))
    return found


def test_nothing_lies_loose_in_the_root_of_the_package() -> None:
    assert {path.stem for path in (ROOT / "hyena_dist").glob("*.py")} <= IN_THE_ROOT


def test_deepspeed_is_imported_by_its_engine_and_what_imports_it_quickly_alone() -> None:
    users = users_of("deepspeed")
    assert users
    assert {str(Path(user).parent) for user in users} <= {"hyena_dist/parallel/engine", "hyena_dist/parallel/compat"}


@pytest.mark.parametrize("module", ["fcntl", "ctypes"])
def test_the_operating_system_is_asked_in_one_place(module: str) -> None:
    allowed = {"fcntl": {"hyena_dist/system/locks.py"}, "ctypes": {"hyena_dist/system/processes.py"}}
    allowed["ctypes"] |= {"hyena_dist/parallel/compat/cpu.py"}  # advice to the allocator
    assert users_of(module) == allowed[module]


def test_the_system_is_asked_through_the_standard_library() -> None:
    import sys

    for path in (ROOT / "hyena_dist/system").glob("*.py"):
        more = {"psutil"} if path.name == "process_tree.py" else set()  # what Python itself does not say of processes
        for name in imported(path):
            assert name.split(".")[0] in sys.stdlib_module_names | more or name.startswith(
                ("hyena_dist.system.", "hyena_dist.errors.")
            ), f"{path.name} imports {name}"


def test_dependencies_that_are_reached_into_have_an_upper_bound() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    for name in ("deepspeed", "megatron-core"):
        (line,) = [each for each in project["dependencies"] if each.startswith(f"{name}>")]
        assert ",<" in line


def test_the_lowest_versions_that_are_tested_are_those_that_are_allowed() -> None:
    """The lowest constraints pin each dependency to its lower bound, and torch alone as the others do."""
    allowed = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["dependencies"]
    pins = {}
    for name in ("constraints.txt", "constraints-lowest.txt"):
        lines = (line for line in (ROOT / name).read_text().splitlines() if "==" in line)
        pins[name] = {line.partition("==")[0].lower(): line.partition("==")[2] for line in lines}
    for line in allowed:
        dependency, bound = line.split(",")[0].split(">=")
        tested = Version(pins["constraints-lowest.txt"][dependency])
        if dependency == "torch":
            assert tested == Version(pins["constraints.txt"]["torch"])
        else:
            assert tested == Version(bound), dependency
