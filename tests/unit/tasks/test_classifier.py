"""A fine-tuned model in use, from its run's folder."""

from pathlib import Path

import numpy as np
import pytest

from hyena_dist.parallel.world import join_world, shutdown
from hyena_dist.tasks.classifier import load_classifier
from hyena_dist.tasks.finetuning import Finetuning
from hyena_dist.tasks.predictions import Predictions
from hyena_dist.tasks.resolve import complete
from hyena_dist.train.run import train
from tests.configs import refusal
from tests.labelled import WRITERS
from tests.processes import run_cli


@pytest.fixture(scope="module", params=["single_label", "per_base"])
def run(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run whose best step is not its last, which reads both strands of sequences, cut to 40 bases."""
    folder = tmp_path_factory.mktemp("run")
    data = WRITERS[request.param](folder / "data.csv")
    task = {"data": {"path": str(data)}, "max_length": 40, "average_strands": True, "best_by": "loss", "tune": "lora"}
    tree = {
        "output_dir": str(folder),
        "architecture": {"d_model": 16, "n_layer": 1, "l_max": 66, "filter_order": 16},
        "task": {**task, "epochs": 2, "report": False},
        "optimizer": {"lr": 1.0},
        "train": {"global_batch_size": 8, "eval_interval": 2},
        "tracking": {"mlflow": False},
    }
    train(complete(tree, "test"), join_world(), objective=Finetuning)
    shutdown()
    return folder / "run"


def test_it_predicts_what_the_run_has_written(run: Path) -> None:
    """The best weights on the sequences of test: the same scores, whatever batches they come in."""
    written = Predictions.load(run / "predictions-test.parquet")
    rows = [line.split(",") for line in (run.parent / "data.csv").read_text().splitlines()]
    test = {str(i): row[0] for i, row in enumerate(rows[1:]) if row[-1] == "test"}
    found = load_classifier(run).predict(test, max_tokens_per_batch=100)
    np.testing.assert_allclose(found.scores, written.scores, atol=1e-5)
    assert found.classes == written.classes
    assert (found.labels < 0).all()


def test_the_verb(run: Path, tmp_path: Path) -> None:
    (tmp_path / "new.fa").write_text(">a\nACGTACGTAC\n>b\nGGGGGGGG\n")
    told = run_cli("predict", "new.fa", "--model", str(run), "--out", "new.parquet", cwd=tmp_path)
    assert (told.returncode, told.stdout) == (0, "wrote new.parquet: 2 sequences\n"), told.stderr
    found = Predictions.load(tmp_path / "new.parquet")
    assert found.names == ["a", "b"]
    assert found.scores.sum(1) == pytest.approx(np.ones(len(found.scores)), abs=1e-5)


def test_refusals(tmp_path: Path) -> None:
    assert "there is no" in refusal(lambda: load_classifier(tmp_path / "nothing"))
    assert "no fine-tuned model" in refusal(lambda: load_classifier(tmp_path))
