"""The mesh's promises about several ranks."""

import pytest

from hyena_dist.config.parallel import ParallelConfig
from hyena_dist.errors import UserError
from hyena_dist.parallel.mesh import Mesh, initialize
from tests.processes import run_ranks


def groups_and_sums() -> tuple[int, int, int, float, bool, object]:
    mesh = initialize(ParallelConfig(), timeout_s=60)
    rank = mesh.data.rank()
    total = mesh.world.all_reduce_sum(rank + 0.5)
    said = mesh.world.any(rank == 1), mesh.world.broadcast_object({"r": rank})
    return mesh.tensor.size(), mesh.context.size(), rank, total, *said


def failures_on_main() -> list[str]:
    mesh = initialize(ParallelConfig(), timeout_s=60)

    def fail(error: Exception) -> None:
        raise error

    seen = []
    for error in (UserError("a mistake"), PermissionError(13, "no right"), ValueError("odd")):
        try:
            mesh.world.on_main(lambda error=error: fail(error))  # type: ignore[misc]
        except (UserError, OSError, RuntimeError, ValueError) as caught:
            seen.append(f"{isinstance(caught, OSError)} {caught}")
    assert mesh.world.on_main(lambda: 3) == 3
    return seen


def test_two_ranks() -> None:
    assert run_ranks(2, groups_and_sums) == [(1, 1, r, 2.0, True, {"r": 0}) for r in range(2)]


def test_an_error_of_the_main_process_is_everyones() -> None:
    here, there = run_ranks(2, failures_on_main)
    assert here == there == ["False a mistake", "True [Errno 13] no right", "False odd"]


def test_one_process() -> None:
    mesh = Mesh()
    assert mesh.world.is_main
    assert mesh.world.all_reduce_sum(2.5) == 2.5
    with pytest.raises(UserError):
        mesh.world.on_main(lambda: (_ for _ in ()).throw(UserError("x")))
