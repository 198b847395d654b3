"""A run's folder has one owner; one that is killed has let go."""

import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from hyena_dist.errors import UserError
from hyena_dist.system.launch import RUN_VARIABLE
from hyena_dist.train.lock import run_lock

HOLD = "import sys, time; from pathlib import Path; from hyena_dist.train.lock import run_lock\n"
HOLD += "with run_lock(Path(sys.argv[1])): print('held', flush=True); time.sleep(60)"


def test_held_until_its_owner_is_killed(tmp_path: Path) -> None:
    with subprocess.Popen([sys.executable, "-c", HOLD, tmp_path], stdout=subprocess.PIPE, text=True) as owner:
        assert owner.stdout is not None
        assert owner.stdout.readline() == "held\n"
        with pytest.raises(
            UserError, match=rf"trained by process {owner.pid} on \S+ at present; wait for it, or end it"
        ):
            run_lock(tmp_path, wait_s=0.3).__enter__()
        owner.kill()
    with run_lock(tmp_path, wait_s=5):
        pass
    with run_lock(tmp_path, wait_s=0):
        pass


def test_who_waits(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A second `train` is refused at once; a supervisor's ranks wait for those that it has ended elsewhere."""
    monkeypatch.delenv(RUN_VARIABLE, raising=False)
    with run_lock(tmp_path):
        begin = time.monotonic()
        with pytest.raises(UserError, match="is trained by process"):
            run_lock(tmp_path).__enter__()
        assert time.monotonic() - begin < 5
    monkeypatch.setenv(RUN_VARIABLE, str(tmp_path))
    with ThreadPoolExecutor() as pool:
        with run_lock(tmp_path):
            second = pool.submit(run_lock(tmp_path).__enter__)
            time.sleep(2)
            assert not second.done()
        second.result(10)


def test_no_folder(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(UserError, match=r"cannot write to .*file/run: Not a directory; choose another output_dir"):
        run_lock(tmp_path / "file/run").__enter__()
