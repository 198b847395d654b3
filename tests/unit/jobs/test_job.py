"""A curriculum becomes segments on nodes."""

from collections.abc import Callable
from typing import Any

import pytest

from hyena_dist.config.file import parse_config
from hyena_dist.config.run import RunConfig
from hyena_dist.errors import UserError
from jobs.cluster import Cluster
from jobs.job import Job, make_job

CPU = Cluster(gpus_per_node=0)


def run(*stages: dict[str, Any], **sections: Any) -> RunConfig:
    tree = {
        "model": {"d_model": 16, "l_max": 128},
        "data": {"path": "store"},
        "train": {"curriculum": [{"seq_length": 32, "train_iters": 2} | stage for stage in stages]},
    }
    tree["train"]["global_batch_size"] = 16
    return parse_config(tree | sections, "test")


def shape(job: Job) -> list[tuple[int, list[int]]]:
    return [(segment.nodes, [stage.number + 1 for stage in segment.stages]) for segment in job.segments]


CONTEXT = {"parallel": {"context_parallel_size": 2}}


@pytest.mark.parametrize(
    ("stages", "nodes", "expected"),
    [
        ([{}, {}], [4], [(4, [1, 2])]),
        ([{}, {}, CONTEXT], [4], [(4, [1, 2]), (4, [3])]),
        ([{}, {}, CONTEXT], [2, 4], [(2, [1, 2]), (4, [3])]),
        ([{}, {}, {}], [2, 4, 4], [(2, [1]), (4, [2, 3])]),  # a number for each stage cuts a layout, too
        ([{}, CONTEXT], [2, 2], [(2, [1]), (2, [2])]),
    ],
)
def test_segments(stages: list[dict[str, Any]], nodes: list[int], expected: list[tuple[int, list[int]]]) -> None:
    job = make_job(run(*stages), CPU, nodes, 1)
    assert shape(job) == expected
    assert [segment.number for segment in job.segments] == list(range(1, len(expected) + 1))
    assert job.last_stage == len(stages)
    for segment in job.segments:
        for stage in segment.stages:
            ranks = stage.data_parallel_size * stage.parallel.context_parallel_size
            assert ranks == segment.nodes * segment.ranks_per_node == segment.nodes


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (([0],), "--nodes 0 leaves nothing to run"),
        (([1], 0), "--ranks-per-node 0 leaves nothing to run"),
        (([1], 1, 0), "--array 0 leaves nothing to run"),
        (([1, 2], 2), r"--nodes 1,2 has 2 numbers, but the curriculum has 1 layout \(stages 1 to 3\); give 1 or 3"),
        (([3], 1), "global_batch_size 16 is not a multiple of data_parallel_size 3"),
    ],
)
def test_mistakes(arguments: tuple[Any, ...], message: str) -> None:
    with pytest.raises(UserError, match=message):
        make_job(run({}, {}, {}), CPU, *arguments)


def test_more_ranks_than_gpus() -> None:
    with pytest.raises(UserError, match="16 ranks per node do not fit 8 GPUs; try --ranks-per-node 8"):
        make_job(run({}), Cluster(gpus_per_node=8), [1], 16)


def test_ranks_follow_gpus() -> None:
    job = make_job(run({}), Cluster(gpus_per_node=8))
    assert (job.ranks_per_node, job.gpus_per_node) == (8, 8)
    assert "DS_ACCELERATOR" not in job.environment
    assert make_job(run({}), CPU).environment["DS_ACCELERATOR"] == "cpu"


def test_environment_of_the_cluster_wins() -> None:
    job = make_job(run({}), Cluster(gpus_per_node=0, environment={"OMP_NUM_THREADS": "4"}))
    assert job.environment["OMP_NUM_THREADS"] == "4"


def test_auto_is_planned_but_kept(make_config: Callable[..., RunConfig]) -> None:
    config = make_config(parallel={"context_parallel_size": "auto"})
    job = make_job(config, CPU, [1], 2)
    assert job.config.auto == ("parallel.context_parallel_size",)
    assert [stage.number for segment in job.segments for stage in segment.stages] == [0, 1]
    assert "auto" not in str(job.segments)
