"""A run's folder has one owner; one that is killed has let go."""

import subprocess
import sys
from pathlib import Path

import pytest

from hyena_dist.errors import UserError
from hyena_dist.train.lock import RunLock

HOLD = "import sys, time; from pathlib import Path; from hyena_dist.train.lock import RunLock\n"
HOLD += "with RunLock(Path(sys.argv[1])): print('held', flush=True); time.sleep(60)"


def test_held_until_its_owner_is_killed(tmp_path: Path) -> None:
    with subprocess.Popen([sys.executable, "-c", HOLD, tmp_path], stdout=subprocess.PIPE, text=True) as owner:
        assert owner.stdout is not None
        assert owner.stdout.readline() == "held\n"
        with pytest.raises(
            UserError, match=rf"trained by process {owner.pid} on \S+ at present; wait for it, or end it"
        ):
            RunLock(tmp_path, wait_s=0.3).__enter__()
        owner.kill()
    with RunLock(tmp_path, wait_s=5):
        pass
    with RunLock(tmp_path, wait_s=0):
        pass


def test_no_folder(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"cannot write to .*absent: No such file"):
        RunLock(tmp_path / "absent").__enter__()
