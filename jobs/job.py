"""A job: a run, the machines that it gets, and its curriculum cut into the parts that one set of processes trains."""

import itertools
import os
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from hyena_dist.config.run import RunConfig
from hyena_dist.config.schedule import StagePlan
from hyena_dist.errors import UserError
from hyena_dist.system.stop_signals import VARIABLE as STOP_SIGNAL
from jobs.cluster import Cluster, Container

CPU_ENVIRONMENT = {"DS_ACCELERATOR": "cpu"}
"""Variables of ranks on CPUs and of their launcher: without it, each process warns that it looked for a GPU in vain."""


@dataclass(frozen=True)
class Segment:
    """Consecutive stages of the curriculum, which one set of processes trains on some nodes."""

    number: int
    """The segment's place in the job, counted from 1."""
    nodes: int
    ranks_per_node: int
    layout: str
    """The layout of its ranks, in one line for people."""
    stages: tuple[StagePlan, ...]

    @property
    def last_stage(self) -> int:
        """The number of the segment's last stage, counted from 1."""
        return self.stages[-1].number + 1

    def describe(self) -> list[str]:
        """Describe the machines, the layout and the stages in lines for people."""
        size = f"{_count(self.nodes, 'node')} x {_count(self.ranks_per_node, 'rank')}"
        again = ["", ", activations computed again in backward"]
        stages = [stage.describe() + again[stage.parallel.activation_checkpointing] for stage in self.stages]
        return [size, self.layout, *stages]


@dataclass(frozen=True)
class Job:
    """All that a launcher needs to render and submit."""

    config: RunConfig
    """The run as it was given: values that are `auto` stay so, and the processes that train plan them."""
    segments: tuple[Segment, ...]
    cluster: Cluster
    gpus_per_node: int
    directory: Path
    """The folder in which the job is submitted; relative paths start here."""
    array: int | None = None
    """How many tasks of a SLURM array take turns, in place of requeueing; None for a plain job."""

    @property
    def run_dir(self) -> Path:
        """The run's folder."""
        return self.config.run_dir

    @property
    def nodes(self) -> int:
        """The largest number of nodes that a segment gets."""
        return max(segment.nodes for segment in self.segments)

    @property
    def ranks_per_node(self) -> int:
        """Ranks on each node, of which all segments have equally many."""
        return self.segments[0].ranks_per_node

    @property
    def last_stage(self) -> int:
        """The number of the run's last stage, counted from 1."""
        return self.segments[-1].last_stage

    @property
    def container(self) -> Container | None:
        """The container that ranks run in, if there is one."""
        return self.cluster.container

    @property
    def programs(self) -> Path:
        """The folder of `hyena-dist`, `torchrun` and `deepspeed`."""
        return Path(self.cluster.python or sys.executable).parent

    @property
    def environment(self) -> dict[str, str]:
        """The ranks' environment variables, of which the cluster's come last and win."""
        device = {} if self.gpus_per_node else CPU_ENVIRONMENT
        stop = {} if self.cluster.stop_signal == "USR1" else {STOP_SIGNAL: self.cluster.stop_signal}
        return {"OMP_NUM_THREADS": "1", **device, **stop, **self.cluster.environment}


def make_job(
    config: RunConfig,
    cluster: Cluster,
    nodes: Sequence[int] = (1,),
    ranks_per_node: int | None = None,
    array: int | None = None,
) -> Job:
    """Plan a run for machines.

    Args:
        config: the run, which may have values that are `auto`.
        cluster: facts of where it will run.
        nodes: numbers of nodes: one for all, one for each segment of the curriculum, or one for each stage.
        ranks_per_node: ranks on each node; if not given, one for each GPU, or one on CPUs.
        array: how many tasks take turns in place of requeueing; none if not given.

    Raises:
        UserError: sizes do not divide or do not fit; the message has the nearest that do.
    """
    for name, value in [("--nodes", n) for n in nodes] + [("--ranks-per-node", ranks_per_node), ("--array", array)]:
        if value is not None and value < 1:
            raise UserError(f"{name} {value} leaves nothing to run; give 1 or more")
    gpus = _gpus_here() if cluster.gpus_per_node is None else cluster.gpus_per_node
    ranks = ranks_per_node or gpus or 1
    if gpus and ranks > gpus:
        raise UserError(f"{ranks} ranks per node do not fit {gpus} GPUs; try --ranks-per-node {gpus}")
    segments = tuple(_segments(config, nodes, ranks))
    return Job(config, segments, cluster, min(gpus, ranks), Path.cwd(), array)


def _segments(config: RunConfig, nodes: Sequence[int], ranks_per_node: int) -> Iterator[Segment]:
    """Cut the curriculum where other processes are needed, or another number of nodes."""
    if len(nodes) == len(config.train.curriculum):
        groups = list(nodes)
    else:
        # Where it is cut does not depend on what is planned for how many ranks, but for `auto`: then the most decide.
        cuts = _planned(config, max(nodes) * ranks_per_node).segments(max(nodes) * ranks_per_node)
        if len(nodes) not in (1, len(cuts)):
            shown = ", ".join(f"{cut[0].number + 1} to {cut[-1].number + 1}" for cut in cuts)
            choices = " or ".join(map(str, sorted({1, len(cuts), len(config.train.curriculum)})))
            raise UserError(
                f"--nodes {','.join(map(str, nodes))} has {len(nodes)} numbers, but the curriculum has "
                f"{_count(len(cuts), 'layout')} (stages {shown}); give {choices} of them"
            )
        each = nodes if len(nodes) == len(cuts) else [nodes[0]] * len(cuts)
        groups = [n for n, cut in zip(each, cuts, strict=True) for _ in cut]
    plans = {n: _planned(config, n * ranks_per_node) for n in set(groups)}
    stages = {n: plan.stages(n * ranks_per_node) for n, plan in plans.items()}
    numbered = list(enumerate(groups))
    parts = itertools.groupby(numbered, lambda pair: (pair[1], stages[pair[1]][pair[0]].parallel.processes))
    for number, ((count, _), part) in enumerate(parts, 1):
        mine = tuple(stages[count][index] for index, _ in part)
        layout = plans[count].layout_of(mine).describe(count * ranks_per_node)
        yield Segment(number, count, ranks_per_node, layout, mine)


def _planned(config: RunConfig, world_size: int) -> RunConfig:
    """Return the run with a planned value in the place of each `auto`."""
    if not config.auto:
        return config
    from hyena_dist.plan.fit import fit

    return fit(config, world_size)


def _gpus_here() -> int:
    """Count the GPUs of this machine without asking a driver."""
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    number = sum(path.name[6:].isdigit() for path in Path("/dev").glob("nvidia*"))
    return number if visible is None else min(number, len([d for d in visible.split(",") if d.strip()]))


def _count(number: int, what: str) -> str:
    return f"{number} {what}{'s' * (number != 1)}"
