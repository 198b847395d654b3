"""`jobs submit` as typed: what it writes, what it refuses, and how what it starts ends. Scripts here do not train."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import psutil
import pytest

from hyena_dist.cli import main
from hyena_dist.config.file import dump_config, load_config
from hyena_dist.config.run import RunConfig
from hyena_dist.errors import UserError
from hyena_dist.system.locks import lock
from hyena_dist.train import outcome
from hyena_dist.train.lock import run_lock
from hyena_dist.train.outcome import Outcome
from jobs.cluster import Cluster
from jobs.job import make_job
from jobs.run_state import claim, is_done
from jobs.scripts import copy_templates, render


@pytest.fixture
def run(make_config: Callable[..., RunConfig], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> RunConfig:
    """Make a run whose file is run.yaml in the present folder."""
    monkeypatch.chdir(tmp_path)
    config = make_config(output_dir="runs")
    (tmp_path / "run.yaml").write_text(dump_config(config))
    return config


def wait_for(happened: Callable[[], bool]) -> None:
    """Wait for what another process does soon."""
    deadline = time.monotonic() + 30
    while not happened():
        assert time.monotonic() < deadline
        time.sleep(0.02)


def template(text: str) -> list[str]:
    """Return options that put a script of ours in the place of the local launcher's."""
    Path("templates").mkdir(exist_ok=True)
    Path("templates/local.sh.j2").write_text(text)
    return ["--templates", "templates"]


def submit(*words: str) -> int:
    return main(["jobs", "submit", "run.yaml", *words])


def test_dry_run_touches_nothing(run: RunConfig, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    before = sorted(tmp_path.rglob("*"))
    assert submit("--dry-run") == 0
    assert sorted(tmp_path.rglob("*")) == before
    assert "runs/run/job/job.sh" in capsys.readouterr().out


def test_writes_what_the_dry_run_prints(run: RunConfig, capfd: pytest.CaptureFixture[str]) -> None:
    options = template("echo trained {{ job.run_dir }}\nexit 3\n")
    assert submit("--dry-run", "optimizer.lr=1e-3", *options) == 0
    shown = capfd.readouterr().out
    assert submit("optimizer.lr=1e-3", *options) == 3
    assert capfd.readouterr().out == "trained runs/run\n"
    for file in ("run.yaml", "job/cluster.yaml", "job/job.sh"):
        assert f"==> runs/run/{file} <==\n{(run.run_dir / file).read_text()}" in shown
    assert load_config(run.run_dir / "run.yaml").optimizer.lr == 1e-3
    facts = json.loads((run.run_dir / "job/submission.json").read_text())
    assert facts["launcher"] == "local"
    assert (facts["nodes"], facts["ranks_per_node"], facts["job_ids"]) == (1, 1, [])
    assert {"git", "command", "time", "packages", "directory"} <= set(facts)


def test_no_torch(run: RunConfig) -> None:
    """Login nodes neither have GPUs nor patience."""
    options = template("true\n")
    code = f"""
import sys
from hyena_dist.cli import main
assert main(["jobs", "submit", "run.yaml", *{options}]) == 0
heavy = {{"torch", "deepspeed", "megatron", "mlflow", "zarr", "webdataset"}} & set(sys.modules)
assert not heavy, heavy
"""
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)


def test_background(run: RunConfig, capsys: pytest.CaptureFixture[str]) -> None:
    assert submit("--background", *template("echo out; exec sleep 60\n")) == 0
    pid = json.loads((run.run_dir / "job/submission.json").read_text())["pid"]
    try:
        wait_for(lambda: psutil.Process(pid).name() == "sleep")
        assert os.getsid(pid) == pid != os.getsid(0)
        assert (run.run_dir / "logs/job.log").read_text() == "out\n"
    finally:
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)


def test_signals_reach_the_script(run: RunConfig) -> None:
    options = template("trap 'echo caught > caught; exit 5' TERM\ntouch ready\nwhile true; do sleep 0.05; done\n")
    command = [sys.executable, "-m", "hyena_dist", "jobs", "submit", "run.yaml", *options]
    with subprocess.Popen(command) as process:
        wait_for(Path("ready").exists)
        process.terminate()
        assert process.wait(20) == 5
    assert Path("caught").exists()


def test_second_submission_is_refused(run: RunConfig, capsys: pytest.CaptureFixture[str]) -> None:
    options = template("exec {{ job.programs }}/hyena-dist jobs supervise {{ job.run_dir }} -- sleep 60\n")
    assert submit("--background", *options) == 0
    pid = json.loads((run.run_dir / "job/submission.json").read_text())["pid"]
    try:
        wait_for((run.run_dir / "job/supervisor.json").exists)
        time.sleep(0.1)
        assert submit(*options) == 2
        assert f"runs/run is run by process {pid} on {os.uname().nodename}; wait for it, or end it" in (
            capsys.readouterr().err
        )
    finally:
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)
    assert submit(*template("exit 0\n")) == 0


def test_two_submissions_at_once(run: RunConfig, capsys: pytest.CaptureFixture[str]) -> None:
    """The second waits for the first, which has not started anything yet, and then sees what that has started."""
    with ThreadPoolExecutor() as pool:
        with lock(run.run_dir / "job/submit.lock"):
            assert submit() == 2
            assert "runs/run is being submitted by another process; wait for it, or" in capsys.readouterr().err
            second = pool.submit(submit)
            time.sleep(0.5)
            started = claim(run.run_dir, ["it"])
            started.__enter__()
        assert second.result() == 2
        started.__exit__(None, None, None)
    assert f"runs/run is run by process {os.getpid()} on " in capsys.readouterr().err
    assert not (run.run_dir / "run.yaml").exists()


def test_finished(run: RunConfig, capsys: pytest.CaptureFixture[str]) -> None:
    options = template("touch started\n")
    run.run_dir.mkdir(parents=True)
    outcome.write(run.run_dir, Outcome("finished", 12, 2, 2, ""))
    assert submit(*options) == 0
    assert "runs/run is finished (12 steps)" in capsys.readouterr().out
    assert not Path("started").exists()
    # A longer curriculum goes on.
    assert submit("train.curriculum.1.train_iters=7", *options) == 0
    assert Path("started").exists()
    assert outcome.read(run.run_dir) is None


@pytest.fixture
def finished(run: RunConfig) -> RunConfig:
    """The run, at the end of its 12 steps."""
    folder = run.run_dir / "checkpoints/step-00000012"
    folder.mkdir(parents=True)
    for name, text in {
        "run.yaml": dump_config(run),
        "files.json": "{}",
        "state.json": '{"stage": 2, "stages": 2}',
    }.items():
        (folder / name).write_text(text)
    (run.run_dir / "run.yaml").write_text("as it was")
    outcome.write(run.run_dir, Outcome("finished", 12, 2, 2, ""))
    return run


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["seed=1"], "seed was 0 and is now 1"),
        (["train.curriculum.0.train_iters=7"], "train.curriculum[0].train_iters was 6 and is now 7"),
        (["train.curriculum.1.train_iters=5"], "train.curriculum[1].train_iters was 6 and is now 5"),
        (["train.curriculum.1.seq_length=64"], "train.curriculum[1].seq_length was 128 and is now 64"),
        (["train.curriculum.1.train_iters=7", "model.d_model=32"], "another architecture: model.d_model was 16 and is"),
    ],
)
def test_another_run_is_refused_before_anything_is_written(
    words: list[str], message: str, finished: RunConfig, capsys: pytest.CaptureFixture[str]
) -> None:
    before = {path: path.read_bytes() for path in finished.run_dir.rglob("*") if path.is_file()}
    assert submit(*words, *template("touch started\n")) == 2
    assert message in capsys.readouterr().err
    assert before == {path: path.read_bytes() for path in finished.run_dir.rglob("*") if path.is_file()}
    assert not Path("started").exists()


@pytest.mark.parametrize(
    "curriculum",
    [
        [{"seq_length": 48, "train_iters": 6}, {"seq_length": 128, "train_iters": 9}],
        [{"seq_length": 48, "train_iters": 6}, {"seq_length": 128, "tokens": 16_384}],
        [
            {"seq_length": 48, "train_iters": 6},
            {"seq_length": 128, "train_iters": 6},
            {"seq_length": 32, "tokens": 512},
        ],
    ],
)
def test_a_longer_curriculum_goes_on(curriculum: list[dict[str, int]], finished: RunConfig) -> None:
    assert submit(f"train.curriculum={curriculum}", *template("touch started\n")) == 0
    assert Path("started").exists()
    assert not is_done(finished.run_dir, 2)


def test_a_run_that_train_itself_trains_is_left_alone(run: RunConfig, capsys: pytest.CaptureFixture[str]) -> None:
    with run_lock(run.run_dir):
        assert submit(*template("touch started\n")) == 2
    assert (
        f"runs/run is trained by process {os.getpid()} on {os.uname().nodename}; wait for it" in capsys.readouterr().err
    )
    assert not (run.run_dir / "run.yaml").exists()


def test_the_record_means_the_same_from_everywhere(run: RunConfig, tmp_path: Path) -> None:
    """Relative paths in what was given are absolute in run.yaml, so that it continues the run from any folder."""
    Path("mine.json").write_text("{}")
    Path("data").symlink_to(run.data.path)
    Path("elsewhere").mkdir()
    given = ["data.path=data", "parallel.zero=mine.json", "tracking.uri=sqlite:///my.db"]
    assert submit(*given, *template("true\n")) == 0
    os.chdir("elsewhere")
    kept = load_config("../runs/run/run.yaml")
    assert kept.run_dir == tmp_path / "runs/run"
    assert kept.data.path == str(tmp_path / "data")
    assert kept.parallel_defaults.zero == str(tmp_path / "mine.json")
    assert kept.tracking.uri == f"sqlite:///{tmp_path}/my.db"


def test_forgets_what_was(run: RunConfig) -> None:
    (run.run_dir / "job").mkdir(parents=True)
    (run.run_dir / "job/cancel").touch()
    (run.run_dir / "job/segment-3.sh").touch()
    assert submit(*template("true\n")) == 0
    assert not (run.run_dir / "job/cancel").exists()
    assert not (run.run_dir / "job/segment-3.sh").exists()


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--nodes", "2"], "--nodes 2 needs another launcher"),
        (["--nodes", "2", "--launcher", "torchrun"], "needs as many names under `hosts`"),
        (["--nodes", "2", "--launcher", "deepspeed"], "needs as many names under `hosts`"),
        (["--nodes", "1,2"], "--nodes with several numbers needs --launcher slurm"),
        (["--nodes", "two"], "--nodes two is not a number or a list of them"),
        (["--array", "2"], "--array 2 needs --launcher slurm"),
        (["--templates", "none"], "--templates none is no folder"),
        (["--cluster", "enroot.yaml"], "enroot containers are started by srun"),
        (["output_dir=run.yaml"], "cannot write to run.yaml/run"),
    ],
)
def test_mistakes(words: list[str], message: str, run: RunConfig, capsys: pytest.CaptureFixture[str]) -> None:
    Path("enroot.yaml").write_text("container: {runtime: enroot, image: x}")
    assert submit(*words) == 2
    assert message in capsys.readouterr().err
    assert not Path("runs").exists()


class TestSlurm:
    """Refusals that a real cluster does not give when asked; tests/slurm has the rest."""

    @pytest.fixture(autouse=True)
    def _programs(self, run: RunConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        """Write an sbatch that takes scripts of one node, and dependencies on earlier jobs."""
        self.program(
            "sbatch", 'echo "$@" >> calls; grep -q nodes=1$ "${@: -1}" || { echo no such nodes >&2; exit 1; }; echo 7'
        )
        self.program("scancel", 'echo scancel "$@" >> calls')
        monkeypatch.setenv("PATH", f"{tmp_path / 'bin'}:{os.environ['PATH']}")

    def program(self, name: str, text: str) -> None:
        Path("bin").mkdir(exist_ok=True)
        Path("bin", name).write_text(f"#!/bin/bash\n{text}\n")
        Path("bin", name).chmod(0o755)

    def test_chain(self, run: RunConfig, capsys: pytest.CaptureFixture[str]) -> None:
        zero = "train.curriculum.1.parallel.zero=zero2"
        assert submit("--launcher", "slurm", zero) == 0
        assert Path("calls").read_text().splitlines() == [
            "--parsable runs/run/job/segment-1.sh",
            "--parsable --dependency=afterok:7 --kill-on-invalid-dep=yes runs/run/job/segment-2.sh",
        ]
        assert json.loads((run.run_dir / "job/submission.json").read_text())["job_ids"] == ["7", "7"]
        assert "SLURM job 7, then 7: runs/run" in capsys.readouterr().out

    def test_names_in_which_slurm_sees_patterns(self, run: RunConfig, capsys: pytest.CaptureFixture[str]) -> None:
        assert submit("--launcher", "slurm", "--dry-run", "output_dir=100%j") == 0
        script = capsys.readouterr().out
        assert f"#SBATCH --output={Path.cwd()}/100%%j/run/logs/job-%j.log" in script
        assert "--output=100%%j/run/logs/rank-%5t.log" in script
        assert "supervise 100%j/run " in script

    def test_refused_in_the_middle(self, run: RunConfig, capsys: pytest.CaptureFixture[str]) -> None:
        assert submit("--launcher", "slurm", "--nodes", "1,2", "--ranks-per-node", "1") == 2
        assert "SLURM refuses runs/run/job/segment-2.sh: no such nodes" in capsys.readouterr().err
        assert Path("calls").read_text().splitlines()[-1] == "scancel 7"
        assert json.loads((run.run_dir / "job/submission.json").read_text())["job_ids"] == []

    def test_done_segments_are_left_out(self, run: RunConfig) -> None:
        folder = run.run_dir / "checkpoints/step-00000006"
        folder.mkdir(parents=True)
        (folder / "files.json").write_text("{}")
        (folder / "state.json").write_text('{"stage": 1, "stages": 2}')
        assert submit("--launcher", "slurm", "train.curriculum.1.parallel.zero=zero2") == 0
        assert Path("calls").read_text() == "--parsable runs/run/job/segment-2.sh\n"

    def test_queued(self, run: RunConfig, capsys: pytest.CaptureFixture[str]) -> None:
        self.program("squeue", "echo '7|7|PENDING|Priority|1:00'; echo '8|8|RUNNING|None|1:00'")
        assert submit("--launcher", "slurm") == 0
        assert submit("--launcher", "slurm") == 2
        assert "runs/run is in SLURM's queue as 7 (PENDING); wait for it, or end it with" in capsys.readouterr().err
        self.program("squeue", "echo Unable to contact slurm controller >&2; exit 1")
        assert submit("--launcher", "slurm") == 75
        assert "whether the run is queued already is unknown" in capsys.readouterr().err
        assert len(Path("calls").read_text().splitlines()) == 1

    def test_no_slurm(
        self, run: RunConfig, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
    ) -> None:
        Path("bin/sbatch").unlink()
        monkeypatch.setenv("PATH", "bin")
        assert submit("--launcher", "slurm") == 2
        assert "sbatch is not on this machine; submit on a login node, or see --dry-run" in capsys.readouterr().err


class TestTemplates:
    def test_copies_are_used(self, run: RunConfig, capsys: pytest.CaptureFixture[str]) -> None:
        assert main(["jobs", "templates", "mine"]) == 0
        Path("mine/about.j2").write_text("# edited\n")
        assert submit("--templates", "mine", "--dry-run") == 0
        assert "#!/bin/bash\n# edited\n\ncd " in capsys.readouterr().out
        with pytest.raises(UserError, match=r"mine/about\.j2 exists and may be yours"):
            copy_templates(Path("mine"))

    @pytest.mark.parametrize(
        ("text", "message"),
        [
            ("a\n{{ cluster.partitoin }}\n", "templates/local.sh.j2 line 2 fails: "),
            ("a\nb\n{% if %}\n", "templates/local.sh.j2 line 3 is wrong: "),
            ("{% include 'absent.j2' %}", "absent.j2"),
            ("{{ 1 / 0 }}", "division by zero"),
        ],
    )
    def test_mistakes(self, text: str, message: str, run: RunConfig, capsys: pytest.CaptureFixture[str]) -> None:
        assert submit("--dry-run", *template(text)) == 2
        error = capsys.readouterr().err
        assert message in error
        assert "Traceback" not in error
        assert "mend it, or leave --templates out" in error

    def test_quoted(self, run: RunConfig, tmp_path: Path) -> None:
        """Bash reads names as they are, whatever is in them."""
        nasty = "a b'$HOME\"`x`;#"
        Path("t").mkdir()
        Path("t/echo.j2").write_text("printf %s {{ job.environment.NASTY }} {{ job.run_dir }}/x")
        job = make_job(run, Cluster(gpus_per_node=0, environment={"NASTY": nasty}))
        script = render("echo", job, Path("t"))
        shown = subprocess.run(["bash", "-c", script], capture_output=True, text=True, check=True).stdout
        assert shown == f"{nasty}{run.run_dir}/x"


def test_rank_log(tmp_path: Path) -> None:
    """Rank 0 is shown and kept, others are kept; the launcher's signals and the exit code are the command's."""
    command = [sys.executable, "-m", "hyena_dist", "jobs", "rank", str(tmp_path / "logs"), "bash", "-c"]
    for rank, shown in (("0", "out\nerr\n"), ("3", "")):
        env = os.environ | {"RANK": rank}
        for _ in range(2):
            done = subprocess.run([*command, "echo out; echo err >&2; exit 4"], env=env, capture_output=True, text=True)
            assert (done.returncode, done.stdout) == (4, shown), done.stderr
        assert (tmp_path / f"logs/rank-0000{rank}.log").read_text() == "out\nerr\n" * 2
