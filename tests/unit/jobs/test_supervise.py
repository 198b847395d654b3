"""The supervisor's answers to endings, crashes and signals; ranks are small real processes."""

import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hyena_dist.system.launch import RUN_VARIABLE
from jobs.run_state import is_done, supervisor
from jobs.supervise import expand
from tests.unit.jobs.conftest import Supervised


@pytest.mark.parametrize(
    ("actions", "code", "starts"),
    [
        ("finished", 0, 1),
        ("stage:1,stage:2,finished", 0, 3),  # never twice the same stage: see the test below
        ("failed", 2, 1),
        ("stopped", 0, 1),
        ("fault,crash,killed,finished", 0, 4),
        ("crash", 7, 3),
        ("killed", 137, 3),
        ("fault", 75, 3),
        ("crash,crash+crash,save:1:0+crash,crash,finished", 0, 5),
        ("save:1:0+crash,save:2:0+crash,save:3:0+crash,crash,crash,finished", 0, 6),
    ],
)
def test_endings(actions: str, code: int, starts: int, supervised: Supervised) -> None:
    restarts = 3 if actions.startswith("fault,") else 2
    steps = actions.replace("stage:1", "save:1:1+stage:1").replace("stage:2", "save:2:2+stage:2")
    assert supervised.end(steps, max_restarts=restarts)[0] == code
    assert len(supervised.starts) == starts
    assert len(set(supervised.starts)) == starts  # a new port for each
    log = (supervised.run / "logs/supervisor.log").read_text()
    assert log.count("starting:") == starts
    if code == 7:
        assert "giving up after 3 attempts without progress" in log


def test_a_stage_that_never_ends(supervised: Supervised) -> None:
    code, output = supervised.end("save:1:1+stage:1,stage:1", max_restarts=1)
    assert code == 1
    assert "giving up after 2 attempts" in output


def test_segments(supervised: Supervised) -> None:
    assert supervised.end("save:1:1+stage:1", segment=1, last_stage=2, max_restarts=0)[0] == 1  # stage 2 is not done
    assert supervised.end("save:1:1+stage:1,save:2:2+stage:2", segment=1, last_stage=2)[0] == 0
    code, output = supervised.end("crash", segment=1, segments=3, last_stage=2)
    assert code == 0
    assert re.fullmatch(r"supervisor: \d{4}-\d\d-\d\d \d\d:\d\d:\d\d segment 1 of 3 is done\n", output)
    assert not is_done(supervised.run)
    assert not is_done(supervised.run, 3)
    # The last stage is done when its report is.
    assert supervised.end("crash,crash,save:3:3+crash,finished", segment=2, last_stage=3)[0] == 0
    assert is_done(supervised.run)
    assert is_done(supervised.run, 3)


@pytest.mark.parametrize("number", [signal.SIGUSR1, signal.SIGTERM, signal.SIGINT, signal.SIGHUP])
def test_signals_reach_ranks_alone(number: signal.Signals, supervised: Supervised) -> None:
    """The signal passes a shell and a Python launcher that would die of it, once the rank, which is slow, can hear."""
    rank = f"{sys.executable} {supervised.rank} {supervised.run} import+child+run"
    launcher = f"import subprocess, sys; sys.exit(subprocess.call({rank.split()!r}))"
    process = supervised.start("", command=["bash", "-c", f'{sys.executable} -c "{launcher}"; exit $?'])
    supervised.wait_for("starts")
    process.send_signal(number)
    output = process.communicate(timeout=30)[0]
    assert process.returncode == 0, output
    assert (supervised.run / "asked").exists()
    assert f"{number.name}: asking the ranks to save and stop" in output
    assert "stopped, exit code 0: it is stopped" in output


def test_a_stop_signal_of_the_cluster(supervised: Supervised, tmp_path: Path) -> None:
    """Before a limit some send SIGUSR2, or to every process: those that import survive it, and the job comes back."""
    (tmp_path / "scontrol").write_text(f'#!/bin/sh\necho "$*" >> {tmp_path}/called\n')
    (tmp_path / "scontrol").chmod(0o755)
    slurm = {"SLURM_JOB_ID": "7", "PATH": f"{tmp_path}:{os.environ['PATH']}", "HYENA_DIST_STOP_SIGNAL": "USR2"}
    process = supervised.start("import+run", slurm=slurm, slurm_steps="run-ranks")
    os.kill(supervised.pid(), signal.SIGUSR2)
    supervised.wait_for("running")
    process.send_signal(signal.SIGUSR2)
    output = process.communicate(timeout=30)[0]
    assert process.returncode == 0, output
    assert "SIGUSR2: asking the ranks to save and stop" in output
    assert (tmp_path / "called").read_text() == "requeue 7\n"


def test_a_rank_that_imports_survives_a_signal(supervised: Supervised) -> None:
    """SLURM may signal all processes of a job, whether they can hear yet or not."""
    process = supervised.start("import+run")
    os.kill(supervised.pid(), signal.SIGUSR1)
    supervised.wait_for("running")
    process.send_signal(signal.SIGTERM)
    assert process.wait(30) == 0
    assert len(supervised.starts) == 1


def test_ranks_that_do_not_stop(supervised: Supervised) -> None:
    process = supervised.start("deaf", grace_s=0.2)
    supervised.wait_for("running")
    process.send_signal(signal.SIGTERM)
    assert process.wait(30) == 137
    assert not psutil.pid_exists(supervised.pid())


def test_ctrl_c_twice(supervised: Supervised) -> None:
    process = supervised.start("deaf")
    supervised.wait_for("running")
    for _ in range(2):
        process.send_signal(signal.SIGINT)
        time.sleep(0.1)
    assert process.wait(30) == 137


def test_nothing_is_left_of_an_attempt(supervised: Supervised) -> None:
    """A process that made a session of its own and lost its parents is ended too."""
    assert supervised.end("child+crash,finished")[0] == 0
    assert "killed" in (supervised.run / "logs/supervisor.log").read_text()
    found = psutil.process_iter(["cmdline"])  # empty for a zombie
    assert not [p for p in found if str(supervised.run) in " ".join(p.info["cmdline"] or ())]


def started_by_a_daemon(supervised: Supervised) -> "subprocess.Popen[bytes]":
    """A rank that starts when there is a file `go`, and is not below the supervisor, as sshd starts pdsh's ranks."""
    wait = (
        "import os, sys, time\n"
        "while not os.path.exists(sys.argv[1]): time.sleep(0.01)\n"
        f"os.environ[{RUN_VARIABLE!r}] = {str(supervised.run)!r}\n"
        "os.execv(sys.executable, [sys.executable, *sys.argv[2:]])"
    )
    rank = [supervised.rank, supervised.run, "child+run"]
    return subprocess.Popen([sys.executable, "-c", wait, supervised.run / "go", *rank], start_new_session=True)


def test_signals_reach_ranks_of_a_daemon(supervised: Supervised) -> None:
    rank = started_by_a_daemon(supervised)
    launcher = f"cd {supervised.run}; touch go; until [ -e outcome.json ]; do sleep 0.05; done"
    process = supervised.start("", command=["bash", "-c", launcher])
    supervised.wait_for("running")
    process.send_signal(signal.SIGTERM)
    output = process.communicate(timeout=30)[0]
    assert process.returncode == 0, output
    assert "stopped, exit code 0: it is stopped" in output
    assert rank.wait(10) == 0


def test_nothing_is_left_of_a_daemons_ranks(supervised: Supervised) -> None:
    """A daemon's ranks are ended too, because later ones would meet them at the same address."""
    rank = started_by_a_daemon(supervised)
    launcher = f"cd {supervised.run}; touch go; until [ -e running ]; do sleep 0.05; done; exit 7"
    code, output = supervised.end("", command=["bash", "-c", launcher], max_restarts=0)
    assert code == 7
    assert "the launcher left 2 processes: killed" in output
    assert rank.wait(10) == -signal.SIGKILL


def test_a_killed_supervisor(supervised: Supervised) -> None:
    """A killed supervisor's launcher gets SIGTERM, and the next supervisor ends what survives that."""
    first = supervised.start("deaf,child+run")
    supervised.wait_for("running")
    first.kill()
    first.wait()
    assert psutil.pid_exists(supervised.pid())
    (supervised.run / "running").unlink()
    second = supervised.start("deaf,child+run")
    supervised.wait_for("running")
    ended = supervised.pid(0)
    assert not psutil.pid_exists(ended) or psutil.Process(ended).status() == psutil.STATUS_ZOMBIE
    assert (
        "killed 1 processes that an earlier supervisor had left" in (supervised.run / "logs/supervisor.log").read_text()
    )
    second.kill()
    second.wait()
    gone, _ = psutil.wait_procs([psutil.Process(supervised.pid(1))], timeout=10)
    assert gone  # of SIGTERM


def test_one_supervisor_at_a_time(supervised: Supervised) -> None:
    first = supervised.start("run")
    supervised.wait_for("running")
    known = supervisor(supervised.run)
    assert known is not None
    assert known.alive
    assert known.identity.pid == first.pid
    from hyena_dist.errors import UserError
    from jobs.run_state import claim

    with (
        pytest.raises(UserError, match=f"is supervised by process {first.pid} on .*jobs cancel"),
        claim(supervised.run, [], patience_s=0),
    ):
        pass
    first.send_signal(signal.SIGTERM)
    assert first.wait(30) == 0
    assert not known.identity.alive


def test_cancelled_between_attempts(supervised: Supervised) -> None:
    process = supervised.start("crash", pause_s=1.0)
    supervised.wait_for("starts")
    (supervised.run / "job").mkdir(exist_ok=True)
    (supervised.run / "job/cancel").touch()
    assert process.wait(30) == 7
    assert len(supervised.starts) == 1
    # Whoever starts it again means it; under SLURM, jobs that come back by themselves do not.
    assert supervised.end("finished", slurm={"SLURM_JOB_ID": "1"}, slurm_steps="run-ranks")[0] == 0
    assert len(supervised.starts) == 1
    assert supervised.end("finished")[0] == 0
    assert len(supervised.starts) == 2


@pytest.mark.parametrize(
    ("state", "number", "comes_back"),
    [
        ("JobState=RUNNING Reason=None", signal.SIGUSR1, True),
        ("JobState=RUNNING Reason=None", signal.SIGTERM, True),
        ("JobState=COMPLETING Reason=TimeLimit", signal.SIGTERM, True),
        ("JobState=CANCELLED Reason=None", signal.SIGTERM, False),
        ("JobState=PREEMPTED Reason=None", signal.SIGTERM, False),
    ],
)
def test_who_brings_a_job_back(
    state: str, number: signal.Signals, comes_back: bool, supervised: Supervised, tmp_path: Path
) -> None:
    """Whoever ends a job by SLURM decides that; where its time is up, the supervisor does."""
    scontrol = tmp_path / "scontrol"
    scontrol.write_text(
        f'#!/bin/sh\n[ "$1" = requeue ] && echo "$2" >> {tmp_path}/requeued || echo "JobId=7 {state}"\n'
    )
    scontrol.chmod(0o755)
    slurm = {"SLURM_JOB_ID": "7", "PATH": f"{tmp_path}:{os.environ['PATH']}"}
    process = supervised.start("run", slurm=slurm, slurm_steps="run-ranks")
    supervised.wait_for("running")
    process.send_signal(number)
    assert process.wait(30) == (0 if comes_back else 75)
    assert (tmp_path / "requeued").exists() is comes_back


@pytest.mark.parametrize(("task", "code"), [("1", 0), ("2", 75)])
def test_tasks_of_an_array(task: str, code: int, supervised: Supervised) -> None:
    array = {"SLURM_JOB_ID": "7", "SLURM_ARRAY_TASK_ID": task, "SLURM_ARRAY_TASK_MAX": "2"}
    process = supervised.start("run", slurm=array, slurm_steps="run-ranks")
    supervised.wait_for("running")
    process.send_signal(signal.SIGUSR1)
    assert process.wait(30) == code


@pytest.mark.parametrize(
    ("steps", "more"),
    [
        (None, {}),  # not rendered for sbatch
        ("run-ranks", {"SLURM_STEP_ID": "0"}),  # by hand, inside of `srun bash`
        ("run-ranks", {"SLURM_TASK_PID": "1"}),  # by hand, inside of another batch script
    ],
)
def test_a_job_that_is_not_the_runs_own(
    steps: str | None, more: dict[str, str], supervised: Supervised, tmp_path: Path
) -> None:
    """Whatever SLURM's variables say, of a job around this process or of one long gone."""
    for name in ("scontrol", "scancel", "squeue"):
        (tmp_path / name).write_text(f"#!/bin/sh\necho {name} >> {tmp_path}/called\n")
        (tmp_path / name).chmod(0o755)
    slurm = {"SLURM_JOB_ID": "999", "SLURM_JOB_NODELIST": "gpu[007-012]", "PATH": f"{tmp_path}:{os.environ['PATH']}"}
    slurm |= {"SLURM_ARRAY_TASK_ID": "1", "SLURM_ARRAY_TASK_MAX": "2"} | more
    said = f"echo $MASTER_ADDR >> {supervised.run}/said; "
    command = ["bash", "-c", f"{said} exec {sys.executable} {supervised.rank} {supervised.run} crash,run"]
    process = supervised.start("", command=command, slurm=slurm, slurm_steps=steps)
    supervised.wait_for("running")
    known = supervisor(supervised.run)
    assert known is not None
    assert known.job_id is None
    process.send_signal(signal.SIGUSR1)
    assert process.wait(30) == 0
    assert (supervised.run / "said").read_text().split() == ["127.0.0.1"] * 2
    assert "the next task" not in (supervised.run / "logs/supervisor.log").read_text()
    assert not (tmp_path / "called").exists()


def test_no_such_launcher(supervised: Supervised) -> None:
    code, output = supervised.end("", command=["no-such-launcher"])
    assert code == 1
    assert "UserError: cannot start no-such-launcher (No such file or directory)" in output


def test_variables_in_the_command(supervised: Supervised) -> None:
    env = {"MASTER_PORT": "123", "A_1": "x y"}
    assert expand("--endpoint=$MASTER_PORT:${A_1}$UNKNOWN", env) == "--endpoint=123:x y$UNKNOWN"
    code, _ = supervised.end("", command=["bash", "-c", f"echo $MASTER_ADDR $MASTER_PORT > {supervised.run}/said"])
    assert code == 1  # no word of how it went: a crash
    address, port = (supervised.run / "said").read_text().split()
    assert address == "127.0.0.1"
    assert int(port) > 1023


@given(st.text(alphabet="ab $-=/.:", max_size=20))
def test_words_without_variables(word: str) -> None:
    assert expand(word, {}) == word


def test_pids_are_used_again() -> None:
    from hyena_dist.system.process_tree import Identity

    me = Identity.of(os.getpid())
    assert me.alive
    assert not me._replace(started=me.started - 100).alive
    assert not me._replace(host="elsewhere").alive
