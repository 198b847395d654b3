"""The output of `jobs submit --dry-run` for every recipe and launcher is a file, to read and submit by hand."""

import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from hyena_dist.cli import main
from jobs.launchers import LAUNCHERS

ROOT = Path(__file__).parents[3]
GOLDEN = ROOT / "tests/unit/jobs/golden"
REWRITE = "UPDATE_GOLDEN=1 .venv/bin/python -m pytest tests/unit/jobs/test_golden.py"
HOME = "/home/you/hyena-dist"

CPU_RANKS = {"chr20": 2, "demo": 2, "demo-tp2cp2": 4}
"""Recipes for CPUs, and their ranks on one machine; all others are for nodes of 8 GPUs."""
SLURM_NODES = {"chr20": 2, "demo": 2, "demo-tp2cp2": 2, "tiny-1k": 1}


def _cases() -> dict[str, list[str]]:
    cases = {}
    for recipe in sorted(path.stem for path in (ROOT / "jobs/recipes").glob("*.yaml")):
        for launcher in LAUNCHERS:
            nodes = SLURM_NODES.get(recipe, 4) if launcher == "slurm" else 1
            words = [f"jobs/recipes/{recipe}.yaml", "--launcher", launcher, "--nodes", str(nodes)]
            if recipe in CPU_RANKS:
                words += [
                    "--ranks-per-node",
                    str(CPU_RANKS[recipe] // nodes),
                    "--cluster",
                    "tests/unit/jobs/golden/cpu.yaml",
                ]
            else:
                words += ["--cluster", "a100"]
            cases[f"{recipe}-{launcher}"] = words
    for launcher in ("deepspeed", "torchrun"):
        words = ["jobs/recipes/pretrain.yaml", "--nodes", "2", "--cluster", "tests/unit/jobs/golden/hosts.yaml"]
        cases[f"several-nodes-{launcher}"] = [*words, "--launcher", launcher]
    pretrain = ["jobs/recipes/pretrain.yaml", "--launcher", "slurm"]
    cases["every-key-slurm"] = [*pretrain, "--nodes", "2", "--cluster", "example", "--array", "5"]
    layouts = "train.curriculum.3.parallel={context_parallel_size: 4}"
    cases["two-segments-slurm"] = [*pretrain, "--nodes", "1,4", "--cluster", "a100", layouts]
    cases["by-deepspeed-slurm"] = [*pretrain, "--cluster", "tests/unit/jobs/golden/by-deepspeed.yaml"]
    return cases


CASES = _cases()


def printed(words: list[str], capsys: pytest.CaptureFixture[str]) -> str:
    """Return what the command prints, with what differs between machines replaced."""
    command = ["jobs", "submit", *words, "--dry-run"]
    assert main(command) == 0, capsys.readouterr().err
    output = capsys.readouterr().out
    output = output.replace(str(Path(sys.executable).parent), f"{HOME}/.venv/bin").replace(str(ROOT), HOME)
    return f"$ hyena-dist {shlex.join(command)}\n{output}"


@pytest.fixture(autouse=True)
def _in_checkout(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)


@pytest.mark.parametrize("case", CASES)
def test_golden(case: str, capsys: pytest.CaptureFixture[str]) -> None:
    file = GOLDEN / f"{case}.txt"
    output = printed(CASES[case], capsys)
    if os.environ.get("UPDATE_GOLDEN"):
        file.write_text(output)
    expected = file.read_text() if file.exists() else ""
    assert output == expected, f"{file} differs; if that is meant, rewrite it: {REWRITE}"


def test_no_golden_is_left_over() -> None:
    left = {path.stem for path in GOLDEN.glob("*.txt")} - set(CASES)
    assert not left, f"delete {sorted(left)} from {GOLDEN}"


@pytest.mark.parametrize("case", CASES)
def test_scripts_are_bash(case: str, capsys: pytest.CaptureFixture[str]) -> None:
    scripts = re.findall(r"^==> (\S+\.sh) <==\n(.*?)(?=^==> )", printed(CASES[case], capsys), re.MULTILINE | re.DOTALL)
    assert scripts
    for name, script in scripts:
        checked = subprocess.run(["bash", "-n"], input=script, capture_output=True, text=True)
        assert checked.returncode == 0, f"{name}: {checked.stderr}"
        assert script.startswith("#!/bin/bash\n# ")
        # Comments come first, then options of sbatch, which must precede every command.
        commands = [i for i, line in enumerate(script.splitlines()) if line and not line.startswith("#")]
        options = [i for i, line in enumerate(script.splitlines()) if line.startswith("#SBATCH")]
        assert not options or max(options) < min(commands)
        assert all(line == line.rstrip() for line in script.splitlines())
