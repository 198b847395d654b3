"""`probe` from Python and from the command line: what the folder holds, real labels, and what is refused."""

import json
from pathlib import Path

import numpy as np
import pytest

from hyena_dist.cli import main
from hyena_dist.data.tokenizer import decode
from hyena_dist.tasks.embeddings.run import Probe, probe
from hyena_dist.tasks.labelled import Examples
from hyena_dist.tasks.predictions import Predictions
from tests.configs import refusal
from tests.outside import outside
from tests.unit.tasks.embeddings.sets import SHARES, examples, labelled

TINY = Path(__file__).parents[3] / "golden" / "tiny"


def write_csv(path: Path, **splits: Examples) -> Path:
    rows = [
        f"{decode(part.read(i))},{tuple(SHARES)[part.labels[i]]},{split}"
        for split, part in splits.items()
        for i in range(len(part))
    ]
    path.write_text("\n".join(["sequence,label,split", *rows]) + "\n")
    return path


def test_a_table_becomes_a_report(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    train, test = examples([20, 20, 20], 1), examples([8, 8, 8], 2)
    copied = test.take([0, 1])
    joined = Examples(
        [*train.names, *copied.names],
        np.r_[train.lengths, copied.lengths],
        np.r_[train.labels, copied.labels],
        lambda i: train.read(i) if i < 60 else copied.read(i - 60),
    )
    table = write_csv(tmp_path / "set.csv", train=joined, test=test)
    out = tmp_path / "out"
    command = ["probe", str(table), "--model", str(TINY), "--modulation-shift", "0.05", "--out", str(out)]
    command += ["--kmers", "2", "--layers", "all", "--strands", "concat", "--pools", "mean,std"]
    assert main(command) == 0
    printed = capsys.readouterr().out
    report, found = (out / "report.md").read_text(), json.loads((out / "probe.json").read_text())
    assert report in printed
    assert "3 classes; 24 sequences of the test split" in report
    assert "2 exact, 0 reverse complement, 0 near, of 24" in report
    assert found["leaks"] == {"exact": 2, "reverse_complement": 0, "near": 0}
    best = Predictions.load(out / "predictions-best-model.parquet")
    accuracy = (best.scores.argmax(1) == best.labels).mean()
    assert accuracy > 0.9
    assert found["metrics"]["best model"]["accuracy"][0] == pytest.approx(accuracy)
    assert set(found["metrics"]) == {
        *(f"{features}, {by}" for features in ("embeddings", "2-mers") for by in ("logistic regression", "XGBoost")),
        "best model",
        "best floor",
        "best model without leaks",
    }
    for name in SHARES:
        assert f"| {name} | 8 | " in report
    assert (out / "tsne.png").is_file()
    assert main(command) == 0  # from the embeddings that are there
    assert json.loads((out / "probe.json").read_text()) == found


def test_folds_predict_every_sequence_of_all_splits(tmp_path: Path) -> None:
    data = labelled(train=examples([12, 12], 1), test=examples([6, 6], 2))
    options = Probe(kmers=(1,), classifiers=("logistic",), folds=3)
    found = probe(data, TINY, tmp_path, options, modulation_shift=0.05)
    assert found.leaks is None
    for predictions in (*found.predictions.values(), *found.best.values()):
        assert sorted(predictions.names) == sorted([*data.splits["train"].names, *data.splits["test"].names])
        assert (predictions.scores.argmax(1) == predictions.labels).mean() > 0.8


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (["--folds", "1"], "--folds 1 is no number of folds"),
        (["--classifiers", "svm"], "'svm' is no classifier"),
        (["--pools", "std"], "pools std are not built here; give mean, or mean,std"),
        (["--layers", "9"], "layer 9 is none of the 2 layers"),
        (["--test", "other.csv"], "other.csv"),
        (["--label", "kind"], "kind"),
    ],
)
def test_mistakes_are_told_in_a_sentence(
    words: list[str], sentence: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    table = write_csv(tmp_path / "set.csv", train=examples([6, 6], 1), test=examples([4, 4], 2))
    command = ["probe", str(table), "--model", str(TINY), "--out", str(tmp_path / "out"), *words]
    assert main(command) == 2
    assert sentence in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_a_launcher_of_several_processes_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in {"RANK": "0", "LOCAL_RANK": "0", "WORLD_SIZE": "2"}.items():
        monkeypatch.setenv(name, value)
    data = labelled(train=examples([6, 6], 1), test=examples([4, 4], 2))
    assert "started on 2 processes" in refusal(lambda: probe(data, TINY, tmp_path))


def test_real_binding_sites_are_told_from_the_base_composition_that_an_untrained_model_sees(tmp_path: Path) -> None:
    data = outside("HYENA_DIST_SHARED_DATA", "the folder with labelled sequences") / "labelled" / "gue_mouse_0"
    out = tmp_path / "out"
    words = ["--test", str(data / "test.csv.gz"), "--classifiers", "logistic", "--kmers", "2"]
    command = ["probe", str(data / "dev.csv.gz"), "--model", str(TINY), "--modulation-shift", "0.05", *words]
    assert main([*command, "--layers", "all", "--out", str(out)]) == 0
    metrics = json.loads((out / "probe.json").read_text())["metrics"]
    assert metrics["best model"]["auroc"][1] > 0.5
