"""The run that `hyena-dist continue` makes of a model and a run file, before anything trains."""

from collections.abc import Callable
from pathlib import Path

import pytest
import yaml

from hyena_dist.cli import main
from hyena_dist.config.file import dump_config
from hyena_dist.config.run import RunConfig
from hyena_dist.train.continuation import check_continues
from tests.checkpoints import write_checkpoint
from tests.configs import config_with

GOLDEN = Path(__file__).parents[2] / "golden/tiny"
RUN = "data: {path: store}\ntrain: {global_batch_size: 8, curriculum: [{seq_length: 32, train_iters: 5}]}\n"

Continue = Callable[..., RunConfig]
Refused = Callable[..., str]


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("run.yaml").write_text(RUN)
    first = config_with().model_copy(update={"name": "first"})
    folder = write_checkpoint(Path("runs/first/checkpoints"), 10, first)
    (folder / "config.json").write_bytes((GOLDEN / "config.json").read_bytes())
    Path("runs/first/run.yaml").write_text(dump_config(first))


@pytest.fixture
def dry(capsys: pytest.CaptureFixture[str]) -> Continue:
    """The run that the verb would train."""

    def run(*words: str) -> RunConfig:
        assert main(["continue", *words, "--dry-run"]) == 0
        return RunConfig.model_validate(yaml.safe_load(capsys.readouterr().out))

    return run


@pytest.fixture
def refused(capsys: pytest.CaptureFixture[str]) -> Refused:
    """The sentence of the refusal."""

    def run(*words: str) -> str:
        assert main(["continue", *words, "--dry-run"]) == 2
        said = capsys.readouterr().err
        assert said.count("\n") == 1
        return said

    return run


def test_the_architecture_is_the_models(dry: Continue) -> None:
    """The run file needs no section `model`; settings of training and the shift that no file says may differ."""
    config = dry(str(GOLDEN), "run.yaml", "model.embed_dropout=0.0", "model.modulation_shift=0.0")
    assert config.init is not None
    assert (config.init.model, config.init.optimizer) == (str(GOLDEN), "fresh")
    published = yaml.safe_load((GOLDEN / "config.json").read_text())
    assert (config.model.d_model, config.model.l_max) == (published["d_model"], published["layer"]["l_max"])
    assert (config.model.embed_dropout, config.model.modulation_shift) == (0.0, 0.0)


def test_another_architecture(refused: Refused) -> None:
    assert "model.d_model is 256 and that of" in refused(str(GOLDEN), "run.yaml", "model.d_model=256")
    assert "no other length keeps" in refused(str(GOLDEN), "run.yaml", "model.l_max=4096")
    assert "(model=null)" in refused(str(GOLDEN), "run.yaml", "model={n_layer: 7}")


def test_nothing_to_begin_with(refused: Refused) -> None:
    assert "there is no" in refused("nowhere", "run.yaml")
    assert "has no optimizer state to keep" in refused(str(GOLDEN), "run.yaml", "--optimizer", "keep")
    assert "name a run file after it" in refused(str(GOLDEN))


def test_a_new_run_from_a_run(dry: Continue) -> None:
    """A run becomes its newest checkpoint; without a run file, its own settings are the new run's."""
    config = dry("runs/first", "name=second", "model=null", "train.curriculum=[{seq_length: 16, train_iters: 2}]")
    assert config.init is not None
    assert config.init.model == str(Path("runs/first/checkpoints/step-00000010").absolute())
    assert config.train.global_batch_size == 8, "as runs/first/run.yaml has it"


def test_what_it_began_with_is_not_read_again(dry: Continue) -> None:
    """The checkpoints of the run itself say how it began, though its source is gone or has trained on."""
    began = dry("runs/first", "run.yaml", "name=second")
    write_checkpoint(Path("runs/second/checkpoints"), 2, began)
    write_checkpoint(Path("runs/first/checkpoints"), 20)
    assert dry("runs/first", "run.yaml", "name=second") == began
    Path("runs/first").rename("gone")
    assert dry("runs/first", "run.yaml", "name=second") == began


def test_the_run_itself(dry: Continue, refused: Refused) -> None:
    """With its own name a run goes on as it is, with a stage more."""
    config = dry("runs/first", "--add-stage", "{seq_length: 512, tokens: 4096}")
    assert config.init is None
    assert [stage.seq_length for stage in config.train.curriculum] == [64, 256, 512]
    assert "name the new run by name=" in refused("runs/first", "--optimizer", "keep")
    assert "train --resume STEP" in refused("runs/first/checkpoints/step-00000010")


def test_what_a_longer_curriculum_does_to_the_learning_rate(tmp_path: Path) -> None:
    first = config_with(curriculum=[{"seq_length": 64, "train_iters": 10}], global_batch_size=8)
    longer = config_with(curriculum=[{"seq_length": 64, "train_iters": 20}], global_batch_size=8)
    folder = write_checkpoint(tmp_path, 10, first)
    (folder / "state.json").write_text((folder / "state.json").read_text().replace('"tokens": 0', '"tokens": 5120'))
    assert check_continues(folder, first) is None
    said = check_continues(folder, longer)
    assert said is not None
    assert "from 0.0003 in place of 0 to 0 at the end" in said
