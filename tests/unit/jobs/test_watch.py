"""`jobs status`, `logs` and `cancel` on folders that are whole, half there or not there, without cluster and torch."""

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import psutil
import pytest

from hyena_dist.cli import main
from hyena_dist.config.file import dump_config
from hyena_dist.config.run import RunConfig
from hyena_dist.train import outcome
from jobs.run_state import standing
from jobs.status import _budget, _duration
from tests.unit.jobs.conftest import Supervised

Folder = Callable[..., Path]


@pytest.fixture
def folder(make_config: Callable[..., RunConfig], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Folder:
    """Make a run's folder: step 6 of 12, in stage 2."""
    monkeypatch.chdir(tmp_path)

    def make(name: str = "first", ids: tuple[str, ...] = ()) -> Path:
        config = make_config(name=name, output_dir="runs")
        run = Path("runs") / name
        (run / "job").mkdir(parents=True)
        (run / "run.yaml").write_text(dump_config(config))
        (run / "job/submission.json").write_text(json.dumps({"launcher": "slurm" if ids else "local", "job_ids": ids}))
        row = {
            "train/loss": 1.25,
            "train/tokens": 8 * 48 * 6,
            "train/seq_length": 48,
            "throughput/tokens_per_second": 3072.0,
        }
        rows = [{"step": 5, "train/loss": 2.0}, {"step": 6, **row}, {"step": 6, "valid/valid/loss": 3.0}]
        (run / "metrics.jsonl").write_text("".join(json.dumps(r) + "\n" for r in rows) + '{"step": 7, "tr')
        checkpoint = run / "checkpoints/step-00000004"
        checkpoint.mkdir(parents=True)
        (checkpoint / "state.json").write_text('{"step": 4, "stage": 0}')
        (checkpoint / "files.json").write_text("{}")
        past = time.time() - 3700
        os.utime(checkpoint / "files.json", (past, past))
        return run

    return make


@pytest.fixture
def squeue(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Put SLURM's commands on PATH as far as these tests need them; tests/slurm asks the real ones."""
    programs = tmp_path / "programs"
    programs.mkdir()
    for name in ("squeue", "scancel", "scontrol"):
        lines = ["#!/bin/bash", f'echo "{name} $*" >> {programs}/calls', f"cat {programs}/{name}.says"]
        (programs / name).write_text("\n".join([*lines, f"test ! -e {programs}/away"]) + "\n")
        (programs / name).chmod(0o755)
        (programs / f"{name}.says").touch()
    monkeypatch.setenv("PATH", f"{programs}:{os.environ['PATH']}")
    return programs


def status(capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    assert main(["jobs", "status", *arguments]) == 0
    return capsys.readouterr().out


def test_a_copy_of_a_checkpoint_is_none(folder: Folder, capsys: pytest.CaptureFixture[str]) -> None:
    """A user's copy beside the checkpoints, whatever its name, neither breaks `status` nor counts."""
    run = folder()
    for name in ("step-00000020.keep", "step-00000040.bad", "step-mine"):
        shutil.copytree(run / "checkpoints/step-00000004", run / "checkpoints" / name)
    assert standing(run).step == 4
    assert "first" in status(capsys)


def test_a_run_that_died(folder: Folder, capsys: pytest.CaptureFixture[str]) -> None:
    folder()
    header, line = status(capsys).splitlines()
    assert header.split() == ["RUN", "STATE", "STEP", "STAGE", "LENGTH", "LOSS", "TOKENS/S", "LEFT", "SAVED", "WHERE"]
    assert line.split() == ["first", "crashed", "6/12", "2/2", "48", "1.2500", "3,072", "2s", "1h01m", "ago", "local"]
    found = json.loads(status(capsys, "runs/first", "--json"))
    assert len(found) == 1
    assert found[0]["time_left_s"] == 8 * 128 * 6 / 3072
    assert found[0]["jobs"] == []
    assert 3600 < found[0]["saved_s_ago"] < 3800


def test_endings(folder: Folder, capsys: pytest.CaptureFixture[str]) -> None:
    run = folder()
    for ending in ("finished", "stopped", "failed", "fault", "stage"):
        outcome.write(run, outcome.Outcome(ending, 6, 1, 2, "words"))  # type: ignore[arg-type]
        assert status(capsys).splitlines()[1].split()[1] == ending
        assert json.loads(status(capsys, "--json"))[0]["message"] == "words"


def test_half_a_folder(folder: Folder, capsys: pytest.CaptureFixture[str]) -> None:
    assert status(capsys) == "no runs below runs/; name a run's folder\n"
    Path("runs/empty/job").mkdir(parents=True)
    Path("runs/odd/job").mkdir(parents=True)
    Path("runs/odd/run.yaml").write_text("nonsense: 1")
    Path("runs/odd/job/submission.json").write_text("[")
    Path("runs/odd/job/supervisor.json").write_text('{"pid": 1}')
    Path("runs/odd/metrics.jsonl").write_text("\n\n[]\n")
    Path("runs/mlartifacts").mkdir()
    for name in ("step-00000020.keep", "step-00000040.bad", "step-"):  # a user's
        Path("runs/odd/checkpoints", name).mkdir(parents=True)
        Path("runs/odd/checkpoints", name, "files.json").touch()
    lines = status(capsys).splitlines()
    assert [line.split()[:3] for line in lines[1:]] == [["empty", "new", "0"], ["odd", "new", "0"]]
    assert main(["jobs", "status", "runs/mlartifacts"]) == 2
    assert "is no run's folder" in capsys.readouterr().err


def test_jobs_of_slurm(folder: Folder, squeue: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder("first", ("17", "18"))
    folder("second", ("20",))
    folder("third")
    (squeue / "squeue.says").write_text(
        "17|17|RUNNING|None|1:23:45\n18|18|PENDING|Dependency|2:00:00\n"
        "20|20_[2-3%1]|PENDING|JobArrayTaskLimit|1:00\n99|99|RUNNING|None|1:00\n"
    )
    first, second, third = status(capsys).splitlines()[1:]
    assert first.endswith("slurm 17 RUNNING 1:23:45 left, 18 PENDING (Dependency)")
    assert second.endswith("slurm 20_[2-3%1] PENDING (JobArrayTaskLimit)")
    assert [line.split()[1] for line in (first, second, third)] == ["running", "queued", "crashed"]
    assert (squeue / "calls").read_text().count("squeue") == 1
    (squeue / "away").touch()
    assert main(["jobs", "status"]) == 0
    captured = capsys.readouterr()
    assert captured.err.startswith("squeue: ")
    assert "not known" in captured.err
    assert len(captured.out.splitlines()) == 4


def test_cancel_in_slurm(folder: Folder, squeue: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run = folder("first", ("17", "18", "19"))
    (squeue / "squeue.says").write_text(
        "17|17|RUNNING|None|1:00\n18|18|PENDING|Dependency|1:00\n20|20|RUNNING|None|1:00\n"
    )
    assert main(["jobs", "cancel", str(run)]) == 0
    said = capsys.readouterr().out
    assert "cancelled SLURM job 18" in said
    assert "asked SLURM job 17 to save and stop" in said
    calls = (squeue / "calls").read_text().splitlines()[1:]
    assert calls == ["scancel 18", "scancel --batch --signal=USR1 17"]
    assert (run / "job/cancel").exists()

    (squeue / "calls").unlink()
    assert main(["jobs", "cancel", str(run), "--now"]) == 0
    assert (squeue / "calls").read_text().splitlines()[1:] == ["scancel 17 18"]

    (squeue / "away").touch()
    (run / "job/cancel").unlink()
    capsys.readouterr()
    assert main(["jobs", "cancel", str(run)]) == 75
    assert "the run will not be queued again" in capsys.readouterr().err
    assert (run / "job/cancel").exists()


def test_cancel_without_rights(folder: Folder) -> None:
    """Somebody else's run: a sentence, and exit code 2."""
    run = folder()
    for path in (run, run / "job"):
        path.chmod(0o755)
    code = (
        "import os, sys; from pathlib import Path\n"
        "from jobs.cancel import cancel; from hyena_dist.errors import UserError\n"
        "os.setegid(65534); os.seteuid(65534)\n"
        "try: cancel(Path(sys.argv[1]), False, print)\n"
        "except UserError as error: sys.exit(str(error))"
    )
    if os.geteuid() != 0:
        pytest.skip("root alone can become someone else")
    done = subprocess.run([sys.executable, "-c", code, run.name], cwd=run.parent, capture_output=True, text=True)
    assert done.returncode == 1
    assert re.match(
        r"cannot write to first/job: Permission denied; the run goes on, and its owner \w+ can", done.stderr
    )
    assert not (run / "job/cancel").exists()


@pytest.mark.parametrize("options", [[], ["--now"]])
def test_cancel_here(options: list[str], supervised: Supervised, capsys: pytest.CaptureFixture[str]) -> None:
    process = supervised.start("child+run")
    supervised.wait_for("running")
    line = status(capsys, str(supervised.run)).splitlines()[1]
    assert line.split()[:2] == ["run", "running"]
    assert f"process {process.pid} on" in line
    assert main(["jobs", "cancel", str(supervised.run), *options]) == 0
    process.wait(30)
    said = capsys.readouterr().out
    assert re.match(r"killed [23] processes" if options else f"asked the supervisor, process {process.pid},", said)
    assert not psutil.pid_exists(supervised.pid())
    assert json.loads(status(capsys, str(supervised.run), "--json"))[0]["state"] == ("new" if options else "stopped")
    assert main(["jobs", "cancel", str(supervised.run)]) == 0
    assert "neither runs nor waits" in capsys.readouterr().out
    assert not (supervised.run / "job/cancel").exists()


def test_cancel_without_a_supervisor(folder: Folder, capsys: pytest.CaptureFixture[str]) -> None:
    """`jobs cancel` also ends a run that was started by `hyena-dist train` itself."""
    run = folder()
    code = (
        "import signal, sys, time; from pathlib import Path; from hyena_dist.train.lock import run_lock\n"
        "signal.signal(signal.SIGUSR1, lambda *_: sys.exit(0))\n"
        f"with run_lock(Path({str(run)!r})): print('locked', flush=True); time.sleep(60)"
    )
    with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE) as process:
        assert process.stdout
        process.stdout.readline()
        assert status(capsys).splitlines()[1].split()[1] == "running"
        assert main(["jobs", "cancel", str(run)]) == 0
        assert f"asked process {process.pid} to save and stop" in capsys.readouterr().out
        assert process.wait(30) == 0
    assert main(["jobs", "cancel", "runs"]) == 2


def test_logs(folder: Folder, capfdbinary: pytest.CaptureFixture[bytes]) -> None:
    run = folder()
    assert main(["jobs", "logs", str(run)]) == 2
    assert b"holds nothing" in capfdbinary.readouterr().err
    (run / "logs").mkdir()
    text = "".join(f"line {i} {'x' * 1000}\n" for i in range(200)).encode()
    (run / "logs/rank-00003.log").write_bytes(text + b"torn \xff")
    (run / "logs/supervisor.log").write_text("started\n")
    lines = [*text.splitlines(keepends=True), b"torn \xff"]
    for number in (1, 2, 100, 200, 1000):
        assert main(["jobs", "logs", str(run), "--rank", "3", "--lines", str(number)]) == 0
        assert capfdbinary.readouterr().out == b"".join(lines[-number:])
    assert main(["jobs", "logs", str(run), "--supervisor"]) == 0
    assert capfdbinary.readouterr().out == b"started\n"
    assert main(["jobs", "logs", str(run)]) == 2
    assert b"rank-00003.log, supervisor.log" in capfdbinary.readouterr().err


def test_following_a_log(folder: Folder) -> None:
    log = folder() / "logs/rank-00000.log"
    log.parent.mkdir()
    log.write_text("one\ntwo\n")
    command = [sys.executable, "-m", "hyena_dist", "jobs", "logs", "runs/first", "--follow", "--lines", "1"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        assert process.stdout
        assert process.stderr
        assert process.stdout.readline() == "two\n"
        with log.open("a") as file:
            file.write("three\n")
        assert process.stdout.readline() == "three\n"
        process.send_signal(signal.SIGINT)
        assert process.wait(10) == 0
        assert process.stderr.read() == ""


def test_following_ends_with_its_reader(folder: Folder) -> None:
    log = folder() / "logs/rank-00000.log"
    log.parent.mkdir()
    log.write_text("one\n")
    command = [sys.executable, "-m", "hyena_dist", "jobs", "logs", "runs/first", "--follow"]
    buffered = {name: value for name, value in os.environ.items() if name != "PYTHONUNBUFFERED"}
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=buffered) as process:
        assert process.stdout
        assert process.stderr
        assert process.stdout.readline() == "one\n"
        process.stdout.close()
        with log.open("a") as file:
            file.write("two\n")
        assert process.wait(20) == 0
        assert process.stderr.read() == ""


def test_no_torch(folder: Folder) -> None:
    words = [["status"], ["cancel", "runs/first"], ["logs", "runs/first"], ["supervise", "runs/first", "--", "false"]]
    words[-1][2:2] = ["--max-restarts", "0"]
    code = f"import sys; from hyena_dist.cli import main; [main(['jobs', *w]) for w in {words}]"
    folder()
    ended = subprocess.run([sys.executable, "-c", f"{code}; sys.exit('torch' in sys.modules)"], capture_output=True)
    assert ended.returncode == 0
    assert b"giving up" in ended.stdout


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(None, "-"), (0, "0s"), (59.9, "59s"), (60, "1m00s"), (3599, "59m59s"), (3600, "1h00m"), (90_000, "1d01h")],
)
def test_durations(seconds: float | None, text: str) -> None:
    assert _duration(seconds) == text


@pytest.mark.parametrize("ranks", [1, 2, 4])
@pytest.mark.parametrize("batch", [{"global_batch_size": 8}, {"global_batch_size": None, "global_batch_tokens": 1024}])
def test_the_budget_is_that_of_the_stages(
    ranks: int, batch: dict[str, int | None], make_config: Callable[..., RunConfig], tmp_path: Path
) -> None:
    curriculum = [{"seq_length": 32, "tokens": 5000}, {"seq_length": 64, "train_iters": 7}]
    config = make_config(train={"curriculum": curriculum, "micro_batch_size": 2, **batch})
    (tmp_path / "run.yaml").write_text(dump_config(config))
    stages = config.stages(ranks)
    last = stages[-1]
    assert _budget(tmp_path) == (last.end_step, last.tokens_at(last.end_step), [s.end_step for s in stages])
