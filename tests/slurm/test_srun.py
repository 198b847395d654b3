"""`srun python -m hyena_dist train` in a script of one's own, as the README has it."""

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from hyena_dist.config.file import dump_config
from hyena_dist.config.run import RunConfig
from tests.distributed.training import curve, train_here
from tests.processes import run_ranks
from tests.slurm.conftest import Cluster

pytestmark = pytest.mark.slurm


def test_two_nodes(cluster: Cluster, make_config: Callable[..., RunConfig], tmp_path: Path) -> None:
    train = {
        "curriculum": [{"seq_length": 32, "train_iters": 3}, {"seq_length": 64, "train_iters": 3}],
        "global_batch_size": 4,
        "micro_batch_size": 2,
        "log_interval": 1,
    }
    (tmp_path / "run.yaml").write_text(dump_config(make_config(train=train)))
    script = f"""#!/bin/bash
#SBATCH --job-name=train --nodes=2 --ntasks-per-node=1 --time=5 --output=job.out
export OMP_NUM_THREADS=1 DS_ACCELERATOR=cpu
srun {sys.executable} -m hyena_dist train run.yaml name=srun
"""
    (tmp_path / "job.sbatch").write_text(script)
    job = cluster.run("sbatch", "--parsable", f"--chdir={tmp_path}", str(tmp_path / "job.sbatch")).strip()
    waited = subprocess.run([cluster.program, "wait", job, "150"], env=cluster.env, capture_output=True, text=True)
    output = (tmp_path / "job.out").read_text() if (tmp_path / "job.out").exists() else ""
    assert waited.returncode == 0, waited.stdout + waited.stderr + output

    run_ranks(1, train_here, make_config(train=train, name="alone"))
    for a, b in zip(curve(tmp_path / "alone"), curve(tmp_path / "srun"), strict=True):
        assert a == pytest.approx(b, rel=1e-5, abs=1e-7)
