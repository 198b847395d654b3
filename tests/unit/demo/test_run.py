"""The demo forgets an earlier run, and nothing else."""

from pathlib import Path

import pytest

from hyena_dist.demo.run import run_demo
from hyena_dist.errors import UserError
from hyena_dist.train.lock import run_lock


def test_fresh_keeps_a_run_that_is_trained_at_present(tmp_path: Path) -> None:
    run = tmp_path / "demo"
    run.mkdir()
    (run / "run.yaml").write_text("")
    with run_lock(run), pytest.raises(UserError, match=r"demo is trained by process .* at present; wait for it"):
        run_demo(tmp_path, fresh=True, overrides=[])
    assert (run / "run.yaml").exists()


def test_fresh_keeps_what_is_no_run(tmp_path: Path) -> None:
    (tmp_path / "demo").mkdir()
    (tmp_path / "demo" / "chapter.txt").write_text("years of work")
    with pytest.raises(UserError, match=r"demo is not a run's folder \(it has no run\.yaml\); delete it yourself"):
        run_demo(tmp_path, fresh=True, overrides=[])
    assert (tmp_path / "demo" / "chapter.txt").exists()
