"""The launches and bytes of a training step on a GPU, and the table of them in the operators' README."""

import os
from pathlib import Path

import pytest
import torch

pytest.importorskip("triton", reason="triton is not installed: kernels cannot be counted")

from hyena_dist import UserError
from hyena_dist.bench import launches
from hyena_dist.bench.launches import LENGTHS, MARKS, README, Bodies, Case, bench_launches, count, table
from hyena_dist.ops.triton.launch import Launch, observed


@pytest.mark.parametrize("length", [1, 1000, *LENGTHS])
def test_few_launches_at_any_length(length: int) -> None:
    assert count(Case(length).on_meta()).launches <= 150


@pytest.mark.parametrize("length", [32_768, 1_048_576])
def test_few_bytes(length: int) -> None:
    ours, published = (count(Case(length, published=which).on_meta()) for which in (False, True))
    assert ours.moved <= 0.6 * published.moved


def test_a_batch_is_copied_into_no_other_order() -> None:
    found = count(Case(1024, batch=8).on_meta()).by_name
    assert not found.keys() & {"clone", "copy_", "_to_copy"}


def test_published_launches_do_not_depend_on_the_length() -> None:
    found = [count(Case(length, published=True).on_meta()) for length in LENGTHS]
    assert {counts.launches for counts in found} == {345}
    assert found[0].by_name["_fft_r2c"][0] == 2 * 3  # u, k and the gradient of what they make


def test_what_counts() -> None:
    def step() -> None:
        x = torch.empty(4, 8, device="meta")
        y = x.t().contiguous()[1:]  # one copy; views are free
        y.add_(1)
        torch.empty_like(y)

    def in_a_body() -> None:
        """Within an operator autograd takes no reshape apart, into a view or a copy."""
        with torch.inference_mode():
            torch.empty(4, 8, device="meta").reshape(8, 4).t().reshape(32)

    counts = count(step)
    assert count(in_a_body).by_name == {"clone": (1, 2 * 128)}
    assert counts.by_name == {"clone": (1, 2 * 128), "add_": (1, 112)}
    assert (counts.launches, counts.moved) == (2, 2 * 128 + 112)


def test_the_backend_is_as_before(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HYENA_DIST_BACKEND", "torch")
    kernels: list[Launch] = []
    with observed(kernels.append), Bodies():
        Case(100, published=True).on_meta()()
        assert not kernels
        Case(100).on_meta()()
    assert kernels
    assert os.environ["HYENA_DIST_BACKEND"] == "torch"


def test_readme_has_what_the_command_prints(capsys: pytest.CaptureFixture[str]) -> None:
    bench_launches()
    printed = capsys.readouterr().out
    assert f"{MARKS[0]}{printed}{MARKS[1]}" in README.read_text(), "run hyena-dist bench launches --write"


def test_the_table_is_written_between_its_marks(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    readme = tmp_path / "README.md"
    readme.write_text(f"before\n{MARKS[0]}old\n{MARKS[1]}after\n")
    monkeypatch.setattr(launches, "README", readme)
    bench_launches([128], write=True)
    assert readme.read_text() == f"before\n{MARKS[0]}{table([128])}{MARKS[1]}after\n"


def test_without_the_repository_nothing_is_written(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(launches, "README", tmp_path / "README.md")
    with pytest.raises(UserError, match="clone of the repository"):
        bench_launches([128], write=True)
