"""The checkpoint that a run continues, and what becomes of those beside it."""

from pathlib import Path

import pytest

from hyena_dist.config.run import RunConfig
from hyena_dist.errors import UserError
from hyena_dist.train.resume import Resume, find_checkpoint
from tests.checkpoints import damage, write_checkpoint
from tests.configs import config_with, refusal


@pytest.fixture
def config(tmp_path: Path) -> RunConfig:
    config = config_with().model_copy(update={"output_dir": tmp_path})
    for step in (20, 40, 60):
        write_checkpoint(config.run_dir / "checkpoints", step, config)
    return config


def names(config: RunConfig) -> set[str]:
    return {path.name for path in (config.run_dir / "checkpoints").iterdir()}


def found(config: RunConfig, resume: Resume = "auto") -> str:
    path = find_checkpoint(config, config, None, resume)
    assert path is not None
    return path.name


def test_a_new_run(tmp_path: Path) -> None:
    config = config_with().model_copy(update={"output_dir": tmp_path})
    config.run_dir.mkdir()
    assert find_checkpoint(config, config, None, "auto") is None
    assert (config.run_dir / "run.yaml").exists()


def test_the_newest_intact_one(config: RunConfig, capsys: pytest.CaptureFixture[str]) -> None:
    """Damaged ones lose their names, so that none of them is taken up or outlives a newer save."""
    assert found(config) == "step-00000060"
    damage(config.run_dir / "checkpoints/step-00000060")
    assert found(config) == "step-00000040"
    assert names(config) == {"step-00000020", "step-00000040", "step-00000060.aside-1"}
    said = capsys.readouterr().out
    assert "WARNING" in said
    assert "step-00000060.aside-1" in said


def test_some_and_none_intact(config: RunConfig) -> None:
    """A run that has checkpoints does not silently begin again from zero."""
    before = names(config)
    for name in before:
        damage(config.run_dir / "checkpoints" / name)
    (config.run_dir / "checkpoints/step-00000020/files.json").unlink()
    sentence = refusal(lambda: found(config))
    assert "none of the 3 checkpoints in" in sentence
    assert "bring one back from a copy, or start anew with name=..." in sentence
    assert names(config) == before
    assert not (config.run_dir / "run.yaml").exists()


def test_copies_of_users_are_left_alone(config: RunConfig) -> None:
    folder = config.run_dir / "checkpoints"
    (folder / "step-00000060").rename(folder / "step-00000060.bad")
    assert found(config) == "step-00000040"
    assert "step-00000060.bad" in names(config)


def test_back_to_a_step(config: RunConfig) -> None:
    assert found(config, 20) == "step-00000020"
    assert names(config) == {"step-00000020", "step-00000040.aside-1", "step-00000060.aside-1"}
    assert found(config) == "step-00000020", "without being told again"


def test_back_to_no_step(config: RunConfig) -> None:
    before = names(config)
    assert "it has those of steps 20, 40, 60" in refusal(lambda: found(config, 30))
    damage(config.run_dir / "checkpoints/step-00000040")
    assert "is missing or not what was saved" in refusal(lambda: found(config, 40))
    other = config.model_copy(update={"seed": 1})
    assert "seed was 0 and is now 1" in refusal(lambda: found(other, 20))
    assert names(config) == before


def test_never(config: RunConfig) -> None:
    with pytest.raises(UserError, match="has checkpoints; pass --resume auto"):
        found(config, "never")
