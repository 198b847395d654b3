"""Whatever is killed and whenever, a run computes what it computes undisturbed.

CHAOS_KILLS=50 (`make test-chaos`) kills more often than the default, which every test run can afford; full disks, NaN,
and the ends of the console and of the MLflow server come on top.
"""

import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from hyena_dist.config.file import dump_config
from hyena_dist.config.run import RunConfig
from hyena_dist.train.checkpoint.format import latest
from tests.chaos.mlflow_server import MlflowServer
from tests.chaos.monkey import VICTIMS, Monkey
from tests.distributed.training import curve

ROOT = Path(__file__).parents[2]
KILLS = int(os.environ.get("CHAOS_KILLS", "5"))
STEPS = 24 * KILLS
"""Steps of each stage: enough for every attempt to get somewhere, and none to the end."""


def command(run_dir: Path) -> list[str]:
    """Return the command in which the script of a local launch ends, but for the faults."""
    jobs = [sys.executable, "-m", "hyena_dist", "jobs"]
    train = [sys.executable, "-m", "tests.chaos.train", "train", str(run_dir / "run.yaml")]
    spawn = [*jobs, "spawn", "--ranks", "2", "--logs", str(run_dir / "logs"), "--", *train]
    return [*jobs, "supervise", str(run_dir), "--max-restarts", "100", "--", *spawn]


def samples(run_dir: Path) -> dict[tuple[int, int], set[int]]:
    """Return, by (rank, step), the checksums of what it was computed from, in all attempts."""
    found: dict[tuple[int, int], set[int]] = {}
    for rank in (0, 1):
        for line in (run_dir / f"samples-{rank}.jsonl").read_text().splitlines():
            try:
                row = json.loads(line)
            except ValueError:  # torn by a kill; what follows is on the same line
                continue
            found.setdefault((rank, row["step"]), set()).add(row["crc"])
    return found


@pytest.fixture
def server(tmp_path: Path) -> Iterator[MlflowServer]:
    with MlflowServer(tmp_path) as server:
        yield server


@pytest.mark.chaos
@pytest.mark.timeout(3600)
def test_chaos(
    make_config: Callable[..., RunConfig], tmp_path: Path, server: MlflowServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(ROOT)
    monkeypatch.setenv("CHAOS_NAN", f"{STEPS // 2},{STEPS + 1},{2 * STEPS + 7}")
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    stages = [
        {"seq_length": 32, "train_iters": STEPS},
        {"seq_length": 64, "train_iters": STEPS},
        {"seq_length": 64, "train_iters": STEPS, "parallel": {"context_parallel_size": 2}},
    ]
    train = {"curriculum": stages, "global_batch_size": 4, "log_interval": 1, "save_interval": 5, "on_nan": "skip"}
    runs = []
    for name in ("undisturbed", "disturbed"):
        data = make_config().data.model_copy(update={"workers": 1})
        tracking = {"mlflow": name == "disturbed", "uri": server.uri, "system_metrics": False}
        config = make_config(name=name, train=train, data=data.model_dump(), tracking=tracking)
        config.run_dir.mkdir()
        (config.run_dir / "run.yaml").write_text(dump_config(config))
        runs.append(config.run_dir)
    whole, struck = runs
    subprocess.run(command(whole), check=True, stdout=subprocess.DEVNULL, stderr=subprocess.STDOUT)

    monkey = Monkey(command(struck), struck, [STEPS, 2 * STEPS], server, seed=KILLS)
    monkey.finish(KILLS, limit_s=300 + 60 * KILLS)
    print(f"{monkey.kills} kills: strikes {dict(monkey.strikes)}, moments {dict(monkey.moments)}")
    if KILLS >= 50:
        assert set(monkey.strikes) == set(VICTIMS)

    # Every step once, with the same numbers; the same weights to the last bit.
    assert curve(struck) == curve(whole)
    assert [row["step"] for row in curve(struck) if "train/loss" in row] == list(range(1, 3 * STEPS + 1))
    saved = [(latest(run / "checkpoints") or Path()) / "model.safetensors" for run in runs]
    assert saved[0].read_bytes() == saved[1].read_bytes()
    # Steps that were computed again after a crash were computed from the same samples.
    seen, expected = samples(struck), samples(whole)
    assert all(len(checksums) == 1 for checksums in expected.values())
    assert len({*expected}) == 2 * 3 * STEPS
    assert {key: sums for key, sums in seen.items() if key in expected} == seen
    assert all(seen[key] <= expected[key] for key in seen)
    # What the server missed while it was away, `track sync` sends.
    server.start()
    server.wait()
    subprocess.run([sys.executable, "-m", "hyena_dist", "track", "sync", str(struck)], check=True)
    assert sent(server, struck) == {row["step"]: row["train/loss"] for row in curve(struck) if "train/loss" in row}


def sent(server: MlflowServer, run_dir: Path) -> dict[int, float]:
    """Return the losses that the server has of a run, which is the only one there and has finished."""
    import mlflow

    client = mlflow.MlflowClient(server.uri)
    [run] = client.search_runs([each.experiment_id for each in client.search_experiments()])
    assert (run.info.run_name, run.info.status) == (run_dir.name, "FINISHED")
    history = client.get_metric_history(run.info.run_id, "train/loss")
    assert len({point.step for point in history}) == len(history), "none came twice"
    return {point.step: point.value for point in history}


@pytest.mark.chaos
@pytest.mark.timeout(3600)
def test_chaos_of_fine_tuning(
    make_task: Callable[..., RunConfig], tmp_path: Path, server: MlflowServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The memory of the best evaluation and the predictions survive, as weights and samples do."""
    monkeypatch.chdir(ROOT)
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    train = {
        "curriculum": [{"seq_length": n, "train_iters": STEPS} for n in (32, 48)],
        "global_batch_size": 4,
        "log_interval": 1,
        "eval_interval": 7,
        "save_interval": 5,
    }
    task = {"epochs": None, "tune": "lora", "best_by": "loss", "patience": 2 * STEPS // 7 - 1}
    runs = []
    for name in ("undisturbed", "disturbed"):
        config = make_task(name=name, train=train, task=task)
        config.run_dir.mkdir()
        (config.run_dir / "run.yaml").write_text(dump_config(config))
        runs.append(config.run_dir)
    whole, struck = runs
    subprocess.run(command(whole), check=True, stdout=subprocess.DEVNULL, stderr=subprocess.STDOUT)
    Monkey(command(struck), struck, [STEPS], server, seed=KILLS).finish(KILLS, limit_s=300 + 60 * KILLS)
    assert curve(struck) == curve(whole)
    files = ["predictions-valid.parquet", "predictions-test.parquet"]
    files += [str(path.relative_to(whole)) for path in whole.glob("checkpoints/*/model.safetensors")]
    for file in files:
        assert (struck / file).read_bytes() == (whole / file).read_bytes(), file
