"""A dry run does every step on a CPU; one with nothing but torch and what it needs does all but training."""

import importlib.metadata
import json
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from hyena_dist.bench.gpu.plan import STEPS

ROOT = Path(__file__).parents[4]
pytest.importorskip("triton", reason="triton is not installed: steps that launch kernels are left out")

BARE = ("torch", "triton", "pydantic", "megatron-core", "numpy", "setuptools")
"""Distributions that a machine with a GPU has, or that `make gpu-wheels` collects for the measurement itself.

Triton's interpreter, which a GPU does not need, needs numpy and setuptools.
"""
BLOCKER = """
import sys
from importlib.machinery import PathFinder


class Bare(PathFinder):
    @classmethod
    def find_spec(cls, name, path=None, target=None):
        return None if name in BLOCKED else super().find_spec(name, path, target)


sys.meta_path[sys.meta_path.index(PathFinder)] = Bare
"""


def dry_run(folder: Path, env: dict[str, str]) -> list[dict[str, Any]]:
    """Return the rows of a dry run that no step of has failed, and check its files."""
    command = [sys.executable, "-m", "hyena_dist.bench.gpu", "--dry-run", "--out", str(folder)]
    done = subprocess.run(command, cwd=ROOT, env=env, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "no step failed" in done.stdout
    rows = [json.loads(line) for line in (folder / "results.jsonl").read_text().splitlines()]
    assert [*dict.fromkeys(row["step"] for row in rows)] == [*(step.name for step in STEPS), "compiling"]
    assert {p.name for p in folder.iterdir()} - {"gpu-dry-run.png"} == {
        "results.jsonl", "gpu-dry-run.csv", "gpu-dry-run.json", "REPORT.md",
    }  # fmt: skip
    return rows


def test_every_step(tmp_path: Path) -> None:
    rows = dry_run(tmp_path, dict(os.environ))
    measured = {(row["step"], row["what"]) for row in rows if not row["outcome"]}
    assert ("training", "train, save, resume") in measured
    for what in ("ours", "published", "attention", "ours, checkpointed", "ours, with AdamW", "ours, by Triton"):
        assert ("headline", what) in measured
    assert ("convolution", "long_conv, bf16x3") in measured
    assert {("gates", "product"), ("gates", "product_backward")} <= measured
    assert any(step == "compiling" and what.startswith("product(") for step, what in measured)
    for row in rows:
        if row["step"] == "convolution" and not row["outcome"]:
            assert max(value for key, value in row.items() if key.endswith("_error")) < 2e-2
    assert (tmp_path / "gpu-dry-run.png").stat().st_size > 10_000
    assert "![seconds by length](gpu-dry-run.png)" in (tmp_path / "REPORT.md").read_text()


@pytest.fixture
def bare(tmp_path: Path) -> dict[str, str]:
    """The environment of processes that can import torch, what `make gpu-wheels` brings, and this package."""
    wanted, seen = [*BARE], set[str]()
    while wanted:
        name = wanted.pop().lower().replace("_", "-")
        if name not in seen:
            seen.add(name)
            try:
                needs = importlib.metadata.requires(name) or []
            except importlib.metadata.PackageNotFoundError:
                continue  # what a requirement's marker leaves out
            wanted += [re.match(r"[\w.-]+", need)[0] for need in needs if "extra ==" not in need]
    # In a process of its own: setuptools adds what it brings along to the path of the one that has imported it.
    program = "import importlib.metadata, json; print(json.dumps(importlib.metadata.packages_distributions()))"
    owners = json.loads(subprocess.run([sys.executable, "-c", program], check=True, capture_output=True).stdout)
    modules = {m for m, names in owners.items() if {n.lower().replace("_", "-") for n in names} & seen}
    blocked = sorted(owners.keys() - modules - {"hyena_dist", "data_prep", "jobs", "ds_configs"})
    (tmp_path / "site").mkdir()
    (tmp_path / "site/sitecustomize.py").write_text(f"BLOCKED = {blocked}\n{BLOCKER}")
    return os.environ | {"PYTHONPATH": f"{tmp_path / 'site'}:{ROOT}"}


def test_on_a_bare_machine(bare: dict[str, str], tmp_path: Path) -> None:
    missing = subprocess.run([sys.executable, "-c", "import deepspeed"], env=bare, capture_output=True, text=True)
    assert "No module named 'deepspeed'" in missing.stderr
    rows = dry_run(tmp_path / "out", bare)
    [outcome] = [row["outcome"] for row in rows if row["step"] == "training"]
    assert re.fullmatch(r"left out: No module named '\w+'", outcome)  # which one is missed first says nothing
    measured = {row["step"] for row in rows if not row["outcome"]}
    assert measured == {*(step.name for step in STEPS), "compiling"} - {"training"}
    report = (tmp_path / "out/REPORT.md").read_text()
    assert "No plot was drawn: ModuleNotFoundError" in report
    assert "published / ours" in report
