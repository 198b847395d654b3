"""Choices by timing: what is timed, what is kept on disk, and what is taken without timing."""

import json
import time
import warnings
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from hyena_dist.ops import tuning

CPU = torch.device("cpu")


@pytest.fixture(autouse=True)
def file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The file of choices; none are settled, and timing is allowed."""
    monkeypatch.setenv(tuning.VARIABLE, str(tmp_path / "cache"))
    monkeypatch.setattr(tuning, "_settled", {})
    monkeypatch.setattr(tuning, "_may_time", True)
    return tmp_path / "cache/choices.json"


class Candidates(dict[str, Callable[[], object]]):
    """Implementations that take so many milliseconds, or raise where there is a message; it counts their calls."""

    def __init__(self, **took: float | str) -> None:
        super().__init__({name: lambda name=name: self._run(name) for name in took})  # type: ignore[misc]
        self.took, self.calls = took, 0

    def _run(self, name: str) -> None:
        self.calls += 1
        took = self.took[name]
        if isinstance(took, str):
            raise RuntimeError(took)
        time.sleep(took / 1e3)


def choose(candidates: Candidates, length: int = 100, rows: int = 8) -> str:
    return tuning.choose("convolution", CPU, torch.bfloat16, length, rows, candidates)


def forget() -> None:
    """Be a new process, which has the file alone."""
    tuning._settled.clear()


def test_the_fastest_is_timed_once_and_kept(file: Path) -> None:
    candidates = Candidates(first=5, second=0.1)
    assert [choose(candidates) for _ in range(3)] == ["second"] * 3
    assert candidates.calls == 2 * (1 + tuning.REPEATS)
    case = f"convolution of 8 x 100 in bfloat16 on {tuning.machine(CPU)}"
    assert json.loads(file.read_text()) == tuning.chosen() == {case: "second"}
    assert [path.name for path in file.parent.iterdir()] == ["choices.json"]
    forget()
    assert choose(Candidates(first=0, second=5)) == "second"  # from the file


def test_cases_are_apart(file: Path) -> None:
    assert choose(Candidates(first=5, second=0)) == "second"
    assert choose(Candidates(first=0, second=5), length=101) == "first"
    assert choose(Candidates(first=0, second=5), rows=9) == "first"
    assert len(json.loads(file.read_text())) == 3


def test_a_single_candidate_is_not_timed(file: Path) -> None:
    only = Candidates(only="never runs")
    assert choose(only) == "only"
    assert only.calls == 0
    assert tuning.chosen() == {}
    assert not file.exists()


def test_a_candidate_that_fails_is_left_out() -> None:
    candidates = Candidates(first=1, second="no such instruction\nand much more")
    with pytest.warns(UserWarning, match="not computed by second, which fails here: no such instruction$") as said:
        assert [choose(candidates), choose(candidates)] == ["first", "first"]
    assert len(said) == 1


def test_if_all_fail_the_first_will_say_why() -> None:
    with pytest.warns(UserWarning, match="fails here"):
        assert choose(Candidates(first="a", second="b")) == "first"


@pytest.mark.parametrize("content", ["{", "[]", '{"case": 3}', "\0"])
def test_a_damaged_file_is_made_anew(file: Path, content: str) -> None:
    file.parent.mkdir()
    file.write_text(content)
    with pytest.warns(UserWarning, match=r"choices\.json is ignored and made anew") as said:
        assert choose(Candidates(first=5, second=0)) == "second"
    assert len(said) == 1
    assert list(json.loads(file.read_text()).values()) == ["second"]


def test_a_candidate_that_there_is_no_more_is_not_taken(file: Path) -> None:
    choose(Candidates(first=5, old=0))
    forget()
    assert choose(Candidates(first=5, new=0)) == "new"


def test_a_file_that_cannot_be_written_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "not a folder").write_text("")
    monkeypatch.setenv(tuning.VARIABLE, str(tmp_path / "not a folder/cache"))
    with pytest.warns(UserWarning, match="timed again next time"):
        assert choose(Candidates(first=5, second=0)) == "second"


def test_what_is_installed_is_taken_and_nothing_else_timed(file: Path) -> None:
    choose(Candidates(first=5, second=0), length=100)
    choices = tuning.chosen()
    choose(Candidates(first=5, second=0), length=200)
    tuning.install(choices)
    candidates = Candidates(first=5, second=0)
    assert choose(candidates, length=100) == "second"
    assert choose(candidates, length=200) == "first"  # though the file knows it: other ranks may not see it
    assert candidates.calls == 0
    assert tuning.chosen() == choices
    with tuning.timing():
        assert choose(candidates, length=300) == "second"
    assert choose(candidates, length=400) == "first"


@pytest.mark.parametrize(
    ("variables", "path"),
    [
        ({tuning.VARIABLE: "/a"}, "/a/choices.json"),
        ({"XDG_CACHE_HOME": "/b"}, "/b/hyena-dist/choices.json"),
        ({"HOME": "/c"}, "/c/.cache/hyena-dist/choices.json"),
    ],
)
def test_place(variables: "dict[str, str]", path: str, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in (tuning.VARIABLE, "XDG_CACHE_HOME"):
        monkeypatch.delenv(name, raising=False)
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    assert tuning._path() == Path(path)


def test_the_nearest_number_of_sequences_speaks_for_others() -> None:
    """Blocks of channels and evaluation have other numbers than the operator that was rehearsed."""
    here = tuning.machine(CPU)
    settled = {8: "first", 64: "second", 4096: "gone"}
    table = {f"convolution of {rows} x 100 in bfloat16 on {here}": name for rows, name in settled.items()}
    others = {f"convolution of 30 x 200 in bfloat16 on {here}": "first", f"convolution of many on {here}": "first"}
    tuning.install(table | others)
    candidates = Candidates(first=0, second=0)
    assert [choose(candidates, rows=rows) for rows in (1, 8, 22, 23, 64, 5000)] == ["first"] * 3 + ["second"] * 3
    assert choose(candidates, length=300, rows=64) == "first", "another length is another matter"
    assert candidates.calls == 0
    assert tuning.chosen() == table | others


def test_operators_on_a_cpu_choose_nothing(file: Path) -> None:
    from hyena_dist.ops import Filters, hyena_operator

    with warnings.catch_warnings(action="error"):
        filters = Filters(torch.randn(6, 3), torch.randn(6), torch.randn(1, 2, 10))
        hyena_operator(torch.randn(6, 1, 10, requires_grad=True), filters).sum().backward()
    assert tuning.chosen() == {}
    assert not file.exists()
