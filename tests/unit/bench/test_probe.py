"""`bench probe`: a set in the folder becomes a row beside the published figure."""

import csv
import json
from pathlib import Path

import numpy as np
import pytest

from hyena_dist.cli import main

TINY = Path(__file__).parents[2] / "golden" / "tiny"


def write_set(folder: Path) -> None:
    """Write splits in which class 1 has more G and C."""
    random = np.random.default_rng(0)
    folder.mkdir(parents=True)
    for split, count in (("train", 40), ("dev", 10), ("test", 20)):
        rows = ["sequence,label"]
        for label in (0, 1) * count:
            rows.append(
                "".join(random.choice(list("ACGT"), 40, p=np.array([3 - label, 2 + label] * 2) / 10)) + f",{label}"
            )
        (folder / f"{split}.csv").write_text("\n".join(rows) + "\n")


def test_a_set_becomes_a_row(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_set(tmp_path / "data" / "gue_mouse_0")
    command = ["bench", "probe", "--model", str(TINY), "--modulation-shift", "0.05", "--data", str(tmp_path / "data")]
    command += ["--work", str(tmp_path / "work"), "--out", str(tmp_path / "out")]
    assert main(command) == 2
    assert "gue_prom_300_tata" in capsys.readouterr().err
    assert not (tmp_path / "work").exists()
    assert main([*command, "--sets", "gue_mouse_0"]) == 0
    (row,) = csv.DictReader((tmp_path / "out" / "probe.csv").open())
    found = json.loads((tmp_path / "work" / "gue_mouse_0" / "probe.json").read_text())["metrics"]["best model"]["auroc"]
    assert [float(row[name]) for name in ("auc", "auc_low", "auc_high")] == found
    assert (row["set"], row["tested"], row["published_auc"]) == ("gue_mouse_0", "40", "0.59")
    assert f"| gue_mouse_0 | 40 | {found[0]:.3f} (" in (tmp_path / "out" / "probe.md").read_text()
    assert json.loads((tmp_path / "out" / "probe.json").read_text())["n_layer"] == 2
    assert main([*command, "--sets", "gue_mouse_1"]) == 2
