"""`bench operator` on short sequences: what it compares is the same model, and what it writes is what it found."""

import csv
import json
from pathlib import Path

import pytest
import torch

from hyena_dist import HyenaDNA, ModelConfig, UserError
from hyena_dist.bench.operator import bench_operator, crossing
from hyena_dist.bench.reference_model import as_published
from hyena_dist.bench.self_check import self_check
from hyena_dist.bench.step import StepCase, bench_step
from hyena_dist.ops.conv import gates


@pytest.mark.parametrize("order", [2, 3])
def test_the_published_computation_is_the_same_function(order: int) -> None:
    torch.manual_seed(0)
    model = HyenaDNA(ModelConfig(d_model=16, l_max=100, order=order, layer_pattern="HA")).double().eval()
    ids = torch.randint(7, 11, (2, 77))
    ours = model(ids, ids).nll
    published = as_published(model)(ids, ids).nll
    torch.testing.assert_close(published, ours, rtol=1e-10, atol=1e-10)


@pytest.mark.usefixtures("started_at_once")
def test_table_plot_and_environment(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    bench_operator(
        [96], dtypes=["fp32"], d_model=16, n_layer=1, repeats=1, device="cpu", limit_s=60, out=tmp_path / "results"
    )
    with open(tmp_path / "results/operator-cpu.csv") as file:
        rows = list(csv.DictReader(file))
    assert [row["what"] for row in rows] == ["ours", "published", "attention"]
    assert float(rows[0]["ratio"]) == 1
    for row in rows:
        assert float(row["forward_backward_s"]) > float(row["forward_s"]) > 0
        assert row["outcome"] == ""
    assert (tmp_path / "results/operator-cpu.png").stat().st_size > 10_000
    assert json.loads((tmp_path / "results/operator-cpu.json").read_text())["d_model"] == 16
    assert capsys.readouterr().out.count("\n") == 2 + 3


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_no_gpu() -> None:
    with pytest.raises(UserError, match="--device cuda finds no GPU"):
        bench_operator([8], dtypes=["fp32"], d_model=8, n_layer=1, repeats=1, device="cuda", limit_s=1, out=None)


def test_crossing_of_two_power_laws() -> None:
    """Ours takes n, attention n**2 / 1000: they meet at 1,000, between two measured lengths."""
    rows = [["ours", "fp32", n, 1, 0, float(n), 0, 1, ""] for n in (256, 512, 4096)]
    rows += [["attention", "fp32", n, 1, 0, n**2 / 1000, 0, 1, ""] for n in (256, 512, 4096)]
    assert crossing(rows, "fp32") == pytest.approx(1000)
    assert crossing(rows[:5], "fp32") is None
    assert crossing(rows, "bf16") is None


@pytest.mark.usefixtures("started_at_once")
def test_what_would_take_too_long_is_not_tried_and_nothing_is_lost(tmp_path: Path) -> None:
    """With a limit that no second length can meet, the table holds the first length of each method."""
    bench_operator(
        [64, 2**22],
        dtypes=["fp32"],
        d_model=8,
        n_layer=1,
        repeats=1,
        device="cpu",
        limit_s=0.5,
        out=tmp_path,
        tokens=200,
    )
    with open(tmp_path / "operator-cpu.csv") as file:
        assert [(row["length"], row["batch"]) for row in csv.DictReader(file)] == [("64", "3")] * 3


@pytest.mark.usefixtures("started_at_once")
def test_steps(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    bench_step([64, 128], StepCase(16, 2, "bf16", True, "cpu", 2), tmp_path)
    with open(tmp_path / "step-cpu-2x16-bf16.csv") as file:
        rows = list(csv.DictReader(file))
    assert [row["length"] for row in rows] == ["64", "128"]
    for row in rows:
        assert float(row["us_per_token"]) == pytest.approx(1e6 * float(row["step_s"]) / float(row["length"]))
        assert float(row["in_all_gb"]) > float(row["over_baseline_gb"]) >= 0
    assert json.loads((tmp_path / "step-cpu-2x16-bf16.json").read_text())["activation_checkpointing"] is True
    assert "with activation checkpointing" in capsys.readouterr().out
    bench_step([64], StepCase(16, 1, "fp32", False, "cpu", 1, plain_malloc=True), tmp_path)
    assert (tmp_path / "step-cpu-1x16-fp32-plain-malloc.csv").exists()
    assert "plain malloc" in capsys.readouterr().out


@pytest.mark.usefixtures("started_at_once")
def test_a_step_that_fails_is_a_row(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    bench_step([2**45], StepCase(16, 1, "fp32", False, "cpu", 1), tmp_path)
    assert "out of memory" in capsys.readouterr().out
    assert (tmp_path / "step-cpu-1x16-fp32.csv").read_text().strip().endswith("out of memory")


def test_self_check(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr("hyena_dist.bench.self_check.LENGTHS", (1, 37))
    assert self_check("cpu")
    assert "all checks passed" in capsys.readouterr().out


def test_self_check_finds_a_wrong_operator(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr("hyena_dist.bench.self_check.LENGTHS", (37,))
    right = gates.gate_pair
    monkeypatch.setattr(gates, "gate_pair", lambda *operands: right(*operands).mul_(1.01))
    assert not self_check("cpu")
    assert "checks failed" in capsys.readouterr().out
