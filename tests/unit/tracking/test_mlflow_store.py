"""The SQLite store that is made where none is named: by several processes at once, and for several people."""

import os
import shlex
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from sqlalchemy.engine import make_url

from hyena_dist.errors import UserError
from hyena_dist.tracking import MlflowTracker
from hyena_dist.tracking.mlflow_store import creating
from tests.processes import Ranks


def one_run(root: Path, name: str, umask: int) -> str:
    """Open the store as a run does, leave something in it, and return the run's id."""
    os.environ.pop("MLFLOW_TRACKING_URI", None)
    os.umask(umask)
    tracker = MlflowTracker(None, "hyena", name, root / name, root, False)
    tracker.log_text("text", "x.txt")
    tracker.finish("FINISHED")
    assert tracker.complete
    assert tracker.run_id
    return tracker.run_id


def test_runs_that_begin_at_once_make_one_store_that_their_group_can_write(tmp_path: Path) -> None:
    processes = [Ranks(1, one_run, tmp_path, name, 0o002) for name in "abc"]
    ids = [found for process in processes for found in process.results()]
    assert len(set(ids)) == 3
    assert {path.name for path in (tmp_path / "mlartifacts").iterdir()} == set(ids)
    for path in (tmp_path / "mlflow.db", tmp_path / ".mlflow.db.lock", tmp_path / "mlartifacts"):
        assert path.stat().st_mode & 0o020, f"the umask lets the group write {path}"


def as_another(root: Path) -> str:
    """Open a store that another user has made and return what is said."""
    if os.getuid() == 0:
        os.setgid(65534)
        os.setuid(65534)
    try:
        with creating(f"sqlite:///{root / 'mlflow.db'}"):
            return "opened"
    except PermissionError as error:
        return str(error)


@pytest.fixture
def shared() -> Iterator[Path]:
    """A folder that everybody may write to: pytest's own let nobody else in."""
    with tempfile.TemporaryDirectory() as folder:
        Path(folder).chmod(0o777)
        yield Path(folder)


def test_a_store_of_another_user_is_opened_or_refused_in_a_sentence(shared: Path) -> None:
    database = shared / "mlflow.db"
    with creating(f"sqlite:///{database}"):
        assert database.stat().st_mode & 0o777 == 0o666 & ~_umask()
    database.chmod(0o444)
    (shared / ".mlflow.db.lock").chmod(0o444)
    [said] = Ranks(1, as_another, shared).results()
    assert said == f"{database} belongs to {database.owner()} and you may not write it, which chmod g+w allows"
    database.chmod(0o666)
    assert Ranks(1, as_another, shared).results() == ["opened"], "a lock of another user is in nobody's way"


def test_a_store_that_cannot_be_written_is_one_sentence_of_a_run(tmp_path: Path) -> None:
    if os.getuid() == 0:
        pytest.skip("root may write everything")
    (tmp_path / "mlflow.db").touch(0o444)
    with pytest.raises(UserError, match=r"cannot be opened \(.*mlflow.db belongs to .*\): name another store with"):
        MlflowTracker(None, "hyena", "a", tmp_path / "a", tmp_path, False)


def test_names_of_folders(tmp_path: Path) -> None:
    root = tmp_path / "it's #1, 100%20 %j?"
    tracker = MlflowTracker(None, "experiment", "run", root / "run", root, False)
    tracker.log_metrics({"loss": 1.5}, 3)
    tracker.log_text("hello", "word.txt")
    tracker.finish("FINISHED")
    assert (root / "mlflow.db").stat().st_size > 0
    [word] = root.rglob("word.txt")
    assert root / "mlartifacts" in word.parents
    assert tracker.ui_command is not None
    *_, uri = shlex.split(tracker.ui_command)
    assert make_url(uri).database == str(root / "mlflow.db")
    again = MlflowTracker(None, "experiment", "run", root / "run", root, False)
    assert again.run_id == tracker.run_id
    again.finish("FINISHED")


def _umask() -> int:
    umask = os.umask(0)
    os.umask(umask)
    return umask
