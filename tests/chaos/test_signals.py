"""Signals to any process of any launcher: nothing is left running, nothing saved is lost, every end is said.

CHAOS_SIGNALS=100 sends so many, after which every run has computed what it computes undisturbed.
"""

import os
import random
import sys
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from hyena_dist.config.file import dump_config
from hyena_dist.config.run import RunConfig
from hyena_dist.train.checkpoint.format import latest
from jobs.cluster import Cluster
from jobs.job import make_job
from jobs.submission import files_of
from tests.chaos.signals import Target
from tests.distributed.training import curve

ROOT = Path(__file__).parents[2]
BIN = Path(sys.executable).parent
SIGNALS = int(os.environ.get("CHAOS_SIGNALS", "3"))
STEPS = 400
LAUNCHERS = ("deepspeed", "torchrun", "jobs local", "jobs deepspeed", "jobs torchrun", "alone")
MODULE = ["-m", "hyena_dist", "train"]
BARE = {
    "alone": [sys.executable, *MODULE],
    # A port that is free now may be taken at the next start, so each start chooses one.
    "deepspeed": [str(BIN / "deepspeed"), "--num_accelerators", "2", "--master_port", "$PORT", "--module", *MODULE[1:]],
    "torchrun": [str(BIN / "torchrun"), "--nproc_per_node", "2", "--master_port", "$PORT", *MODULE],
}
PORT = "PORT=$(python -c 'import socket; s = socket.socket(); s.bind((\"\", 0)); print(s.getsockname()[1])'); exec"


def command(launcher: str, config: RunConfig) -> list[str]:
    """Return what a user types, or the script that `jobs submit` writes."""
    file = config.run_dir / "run.yaml"
    file.write_text(dump_config(config))
    if launcher in BARE:
        words = [*BARE[launcher], str(file)]
        return ["bash", "-c", f"{PORT} {' '.join(words)}"]
    job = make_job(config, Cluster(gpus_per_node=0), ranks_per_node=2)
    (config.run_dir / "job").mkdir()
    for name, text in files_of(job, launcher.removeprefix("jobs "), None).items():
        (config.run_dir / name).write_text(text)
    return ["bash", str(config.run_dir / "job/job.sh")]


@pytest.fixture
def make_target(make_config: Callable[..., RunConfig]) -> Iterator[Callable[..., Target]]:
    """Make a run under a launcher, of which nothing is left after the test."""
    made: list[Target] = []
    draw = random.Random(SIGNALS)

    def make(launcher: str, name: str) -> Target:
        curriculum = [{"seq_length": 32, "train_iters": STEPS}]
        train = {"curriculum": curriculum, "global_batch_size": 4, "log_interval": 1, "save_interval": 20}
        data = make_config().data.model_copy(update={"workers": 1})
        config = make_config(name=name, train=train, data=data.model_dump(), evaluation={"max_tokens": 512})
        config.run_dir.mkdir()
        made.append(Target(launcher, config.run_dir, command(launcher, config), draw))
        return made[-1]

    yield make
    for target in made:
        target.kill()


@pytest.mark.chaos
@pytest.mark.timeout(3600)
def test_signals(make_target: Callable[..., Target], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    monkeypatch.setenv("PATH", f"{BIN}{os.pathsep}{os.environ['PATH']}")
    targets: dict[str, Target] = {}
    every: list[Target] = []
    sent = 0
    while sent < SIGNALS:
        launcher = LAUNCHERS[sent % len(LAUNCHERS)]
        if launcher not in targets or targets[launcher].finished:
            targets[launcher] = make_target(launcher, f"run-{len(every)}")
            every.append(targets[launcher])
        before = targets[launcher].strikes.total()
        targets[launcher].strike()
        if targets[launcher].strikes.total() > before:
            sent += 1
            print(f"{sent}: {launcher}: {dict(targets[launcher].endings)}", flush=True)

    calm_runs = {}
    for target in every:
        target.finish()
        alike = "alone" if target.name == "alone" else "torchrun"
        if alike not in calm_runs:
            calm_runs[alike] = make_target(alike, f"calm-{alike}")
            calm_runs[alike].finish()
        calm = calm_runs[alike]
        assert curve(target.run_dir) == curve(calm.run_dir), target.name
        saved = [(latest(t.run_dir / "checkpoints") or Path()) / "model.safetensors" for t in (target, calm)]
        assert saved[0].read_bytes() == saved[1].read_bytes(), target.name
    print(sum((target.strikes for target in every), Counter()), sum((target.endings for target in every), Counter()))
