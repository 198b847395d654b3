"""The newest intact checkpoints of a run stay, and those that are wanted; what is not ours is left alone."""

import tempfile
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hyena_dist.errors import UserError
from hyena_dist.train.checkpoint.format import list_checkpoints, step_of
from hyena_dist.train.checkpoint.keep import Retention, find_step, intact_of_step, is_pinned, pin, set_aside
from tests.checkpoints import damage, write_checkpoint

KINDS = st.sampled_from(["intact", "damaged", "pinned"])


@given(
    older=st.dictionaries(st.integers(1, 9), KINDS),
    newer=st.sets(st.integers(11, 13)),
    keep_last=st.integers(1, 4),
    interval=st.integers(0, 4),
)
def test_what_stays(older: dict[int, str], newer: set[int], keep_last: int, interval: int) -> None:
    with tempfile.TemporaryDirectory() as folder:
        directory = Path(folder)
        for step in (*older, *newer):
            path = write_checkpoint(directory, step)
            if older.get(step) == "damaged":
                damage(path)
            if older.get(step) == "pinned":
                pin(path)
        newest = write_checkpoint(directory, 10)
        said: list[str] = []
        Retention(keep_last, interval, said.append).saved(newest)
        left = {step_of(path) for path in list_checkpoints(directory)}
        aside = {int(path.name[5:13]) for path in directory.glob("step-*.aside-1")}

        intact = sorted((step for step in older if older[step] != "damaged"), reverse=True)[: keep_last - 1]
        needed = {10, *newer, *intact}
        wanted = {step for step in older if older[step] == "pinned" or (interval and step % interval == 0)}
        assert left == needed | (wanted - aside)
        assert all(older[step] == "damaged" for step in aside)
        assert len(said) == len(aside), "each is said"


def test_damaged_ones_do_not_count(tmp_path: Path) -> None:
    """A new save stays beside as many damaged ones of higher numbers as are kept."""
    for step in (30, 40):
        damage(write_checkpoint(tmp_path, step))
    newest = write_checkpoint(tmp_path, 20)
    Retention(2, 0, print).saved(newest)
    assert [step_of(path) for path in list_checkpoints(tmp_path)] == [20, 30, 40]


def test_damage_since_the_save_is_seen_by_size(tmp_path: Path) -> None:
    said: list[str] = []
    retention = Retention(2, 0, said.append)
    retention.saved(write_checkpoint(tmp_path, 10))
    second = write_checkpoint(tmp_path, 20)
    retention.saved(second)
    (second / "state.json").write_text("")
    retention.saved(write_checkpoint(tmp_path, 30))
    assert {path.name for path in tmp_path.iterdir()} == {"step-00000010", "step-00000020.aside-1", "step-00000030"}
    assert len(said) == 1
    assert "state.json is missing or not what was saved" in said[0]
    assert "it is now" in said[0]


def test_names_that_are_not_ours(tmp_path: Path) -> None:
    others = ["step-00000020.keep", "step-00000040.bad", "step-5", "xstep-00000001", "step-00000003-old", ".step-mine"]
    for name in others:
        write_checkpoint(tmp_path, 99).rename(tmp_path / name)
    first = write_checkpoint(tmp_path, 1)
    last = write_checkpoint(tmp_path, 123456789)
    assert list_checkpoints(tmp_path) == [first, last], "by number, and not by name"
    Retention(1, 0, print).saved(last)
    assert {path.name for path in tmp_path.iterdir()} == {*others, last.name}


def test_set_aside_replaces_nothing(tmp_path: Path) -> None:
    assert set_aside(write_checkpoint(tmp_path, 7)).name == "step-00000007.aside-1"
    assert set_aside(write_checkpoint(tmp_path, 7)).name == "step-00000007.aside-2"


def test_pin_and_unpin(tmp_path: Path) -> None:
    path = write_checkpoint(tmp_path, 7)
    pin(path)
    assert is_pinned(path)
    assert intact_of_step(tmp_path, 7) == path, "a pin is no damage"
    pin(path, False)
    pin(path, False)
    assert not is_pinned(path)
    path.rename(tmp_path / "gone")
    with pytest.raises(UserError, match=r"cannot write to .*step-00000007 \(No such file or directory\)"):
        pin(path)


def test_the_checkpoint_of_a_step(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="has no checkpoint of step 7: it has none"):
        find_step(tmp_path / "nowhere", 7)
    write_checkpoint(tmp_path, 2)
    damage(write_checkpoint(tmp_path, 4))
    with pytest.raises(UserError, match="has no checkpoint of step 7: it has those of steps 2, 4; name another step"):
        find_step(tmp_path, 7)
    with pytest.raises(UserError, match=r"state\.json is missing or not what was saved"):
        intact_of_step(tmp_path, 4)
