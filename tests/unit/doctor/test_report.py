"""The report is complete on a sound machine, and its exit code tells whether the main job can run."""

import pytest
import torch

from hyena_dist.doctor import checks
from hyena_dist.doctor import report as module
from hyena_dist.doctor.checks import CheckFailed
from hyena_dist.doctor.report import doctor
from hyena_dist.ops.backend import explain


def test_doctor_passes_here(capsys: pytest.CaptureFixture[str]) -> None:
    assert doctor() == 0
    out = capsys.readouterr().out
    for expected in ("all-reduce ok", "all-to-all ok", "bf16", "The main job can run here.", torch.__version__):
        assert expected in out
    assert "FAILED" not in out
    assert f"\n  {'operators':<18} {explain(torch.device('cuda' if torch.cuda.is_available() else 'cpu'))}\n" in out
    titles = [line for line in out.splitlines() if line and not line.startswith(" ")]
    assert titles[:5] == ["versions", "devices", "back ends", "checks", "what is missing for what"]


def test_doctor_fails_when_a_check_does(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    def fail(*arguments: object) -> str:
        raise CheckFailed("processes cannot talk")

    monkeypatch.setattr(module, "check_collectives", fail)
    monkeypatch.setattr(module, "check_imports", lambda: "fine")
    assert doctor() == 1
    out = capsys.readouterr().out
    assert "FAILED: processes cannot talk" in out
    assert "The main job cannot run here" in out


def test_what_is_not_done_in_time_is_no_failure(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(checks, "TIMEOUT_S", 0.01)
    assert doctor() == 0
    out = capsys.readouterr().out
    assert out.count("not known: ") == 2  # imports and processes
    assert "FAILED" not in out
    assert "Nothing failed, but not all could be checked in time" in out
    assert "cannot run here" not in out


def test_doctor_fails_without_a_package_that_the_main_job_needs(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(module, "package_version", lambda name: None if name in ("zarr", "flash-attn") else "1.0")
    monkeypatch.setattr(module, "check_collectives", lambda *arguments: "fine")
    monkeypatch.setattr(module, "check_imports", lambda: "fine")
    assert doctor() == 1
    assert "pip install zarr" in capsys.readouterr().out


@pytest.mark.parametrize(("speed", "said"), [(3.65, "products 3.6 times"), (0.02, "-")])
def test_doctor_tells_whether_bf16_is_fast(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], speed: float, said: str
) -> None:
    if torch.cuda.is_available():
        pytest.skip("a GPU is asked for its generation instead")
    monkeypatch.setattr("hyena_dist.ops.precision.bf16_speed", lambda: speed)
    monkeypatch.setattr(module, "bf16_speed", lambda: speed)
    for check in ("check_collectives", "check_imports"):
        monkeypatch.setattr(module, check, lambda *arguments: "fine")
    assert doctor() == 0
    out = capsys.readouterr().out
    assert f"\n  {'bf16':<18} {said}" in out
    assert ("products in it are slow here" in out) == (speed < 0.5)
