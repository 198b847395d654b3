"""A run's folder has one owner; one that is killed has let go."""

import subprocess
import sys
from pathlib import Path

import pytest

from hyena_dist.errors import UserError
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


def test_no_folder(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(UserError, match=r"cannot write to .*file/run: Not a directory; choose another output_dir"):
        run_lock(tmp_path / "file/run").__enter__()
