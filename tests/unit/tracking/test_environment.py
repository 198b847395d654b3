"""The record of the machine is complete, ready for JSON and free of secrets."""

import json
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from hyena_dist.tracking import environment
from hyena_dist.tracking.environment import git_state


def test_it_names_machine_and_software() -> None:
    found = json.loads(json.dumps(environment()))
    assert found["python"] == ".".join(map(str, sys.version_info[:3]))
    assert found["cpu_cores"] >= 1
    assert found["memory_gib"] > 0
    assert {"torch", "deepspeed", "megatron-core", "zarr", "webdataset", "mlflow", "numpy"} <= set(found["packages"])
    assert found["command"].split()[1:] == shlex.join(sys.orig_argv).split()[1:], "nothing in it is secret"


def test_it_holds_no_secrets(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in (
        "MLFLOW_TRACKING_PASSWORD", "MLFLOW_TRACKING_TOKEN", "MLFLOW_TRACKING_USERNAME", "SLURM_JWT",
        "AWS_SECRET_ACCESS_KEY", "HF_TOKEN", "TORCH_API_KEY", "HOME_PASSWORD",
    ):  # fmt: skip
        monkeypatch.setenv(name, "hunter2")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://me:hunter2@host:5000")
    monkeypatch.setenv("SLURM_JOB_ID", "42")
    monkeypatch.setenv("NCCL_DEBUG", "INFO")
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    arguments = ["train", "tracking.uri=https://me:hunter2@host", "password=hunter2", "--token", "hunter2", "tokens=5"]
    monkeypatch.setattr(sys, "orig_argv", arguments)
    found = environment()
    assert "hunter2" not in json.dumps(found)
    variables = found["variables"]
    assert isinstance(variables, dict)
    assert variables["SLURM_JOB_ID"] == "42"
    assert variables["NCCL_DEBUG"] == "INFO"
    assert variables["OMP_NUM_THREADS"] == "1"
    assert variables["MLFLOW_TRACKING_URI"] == "http://***@host:5000"
    assert found["command"] == "train tracking.uri=https://***@host password=*** --token *** tokens=5"


def test_the_commit_is_this_project_s_wherever_one_stands(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    here = git_state()
    subprocess.run(["git", "init", "-q", str(tmp_path)], check=True)
    monkeypatch.chdir(tmp_path)
    assert git_state() == here


def test_a_package_in_somebody_else_s_repository_has_no_commit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    subprocess.run(["git", "init", "-q", str(tmp_path)], check=True)
    installed = tmp_path / "site-packages" / "hyena_dist" / "tracking" / "environment.py"
    monkeypatch.setattr(sys.modules[git_state.__module__], "__file__", str(installed))
    assert git_state() is None


def test_tracking_imports_neither_torch_nor_mlflow_nor_matplotlib() -> None:
    code = "import sys, hyena_dist.tracking; print([m for m in ('torch', 'mlflow', 'matplotlib') if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
