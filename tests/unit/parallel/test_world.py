"""Each process takes the GPU that is its own."""

import pytest

from hyena_dist.errors import UserError
from hyena_dist.parallel.world import local_gpu


def test_a_process_takes_the_gpu_of_its_place_or_the_only_one_that_it_sees() -> None:
    assert [local_gpu(place, 8) for place in range(8)] == list(range(8))
    assert [local_gpu(place, 1) for place in range(8)] == [0] * 8  # srun --gpus-per-task=1


def test_more_processes_than_gpus() -> None:
    with pytest.raises(UserError, match=r"process 4 of this node .* has no GPU, since it sees 4; start one process"):
        local_gpu(4, 4)
