"""`hyena-dist checkpoints` lists, pins and verifies."""

from pathlib import Path

import pytest

from hyena_dist.cli import main
from hyena_dist.train import outcome
from hyena_dist.train.lock import run_lock
from tests.checkpoints import damage, write_checkpoint


@pytest.fixture
def run(tmp_path: Path) -> Path:
    for step in (20, 40):
        write_checkpoint(tmp_path / "checkpoints", step)
    return tmp_path


def test_list_and_pin(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["checkpoints", str(run), "--pin", "20"]) == 0
    header, first, second = capsys.readouterr().out.splitlines()
    assert header.split() == ["STEP", "SAVED", "SIZE", "PINNED", "FILES"]
    assert (first.split()[0], first.split()[-2:]) == ("20", ["pinned", "whole"])
    assert (second.split()[0], second.split()[-2:]) == ("40", ["-", "whole"])
    assert main(["checkpoints", str(run), "--unpin", "20"]) == 0
    assert "pinned" not in capsys.readouterr().out


def test_verify(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["checkpoints", str(run), "--verify"]) == 0
    assert capsys.readouterr().out.count("verified") == 2
    damage(run / "checkpoints/step-00000040")
    assert main(["checkpoints", str(run)]) == 0, "sizes alone do not tell"
    assert main(["checkpoints", str(run), "--verify"]) == 2
    assert "state.json is missing or not what was saved" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["--pin", "30"], "has no checkpoint of step 30: it has those of steps 20, 40"),
        (["--pin", "20", "--unpin", "30"], "has no checkpoint of step 30"),
    ],
)
def test_no_such_step(run: Path, arguments: list[str], sentence: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["checkpoints", str(run), *arguments]) == 2
    assert sentence in capsys.readouterr().err
    assert not list(run.rglob("pinned")), "nothing was changed"


def test_back_to(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    outcome.write(run, outcome.Outcome("finished", 40, 1, 1, "finished"))
    assert main(["checkpoints", str(run), "--back-to", "20"]) == 0
    said = capsys.readouterr().out.splitlines()
    assert said[0].startswith("set aside ")
    assert [line.split()[0] for line in said[1:]] == ["STEP", "20"]
    assert {path.name for path in (run / "checkpoints").iterdir()} == {"step-00000020", "step-00000040.aside-1"}
    assert outcome.read(run) is None, "it is not finished any more"


def test_back_under_the_feet_of_a_run(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with run_lock(run):
        assert main(["checkpoints", str(run), "--back-to", "20"]) == 2
    assert "is trained by process" in capsys.readouterr().err
    assert len(list((run / "checkpoints").iterdir())) == 2


def test_no_run(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["checkpoints", str(tmp_path)]) == 2
    assert "holds no checkpoint; train first or name the folder of a run" in capsys.readouterr().err


def test_back_to_what(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["train", "run.yaml", "--resume", "newest"]) == 2
    assert "--resume newest is neither auto nor never nor a step" in capsys.readouterr().err
