"""For how long a checkpoint stops training, written while training waits and while it goes on."""

import multiprocessing
import os
import statistics
import tempfile
from collections.abc import Callable
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any, NamedTuple

import torch

from hyena_dist.bench.process import now
from hyena_dist.bench.record import record
from hyena_dist.config.deepspeed import read_preset
from hyena_dist.config.file import parse_config
from hyena_dist.config.run import RunConfig
from hyena_dist.errors import UserError
from hyena_dist.models.lm import HyenaDNA
from hyena_dist.parallel.engine.deepspeed import Engine, adamw
from hyena_dist.parallel.mesh import Mesh, initialize
from hyena_dist.parallel.world import shutdown
from hyena_dist.system.hosts import free_port
from hyena_dist.train.checkpoint.write import CheckpointWriter
from hyena_dist.train.param_groups import parameter_groups
from hyena_dist.train.pretraining import nll_sum
from hyena_dist.train.state import TrainState

COLUMNS = (
    "waiting_s",
    "copying_s",
    "stop_ratio",
    "step_s",
    "step_while_writing_s",
    "steps_while_writing",
    "cost_ratio",
)


class CheckpointCase(NamedTuple):
    """A model, and the ranks that train it: each has a process, a thread and one sequence per step."""

    d_model: int
    n_layer: int
    seq_length: int
    ranks: int
    zero: str
    repeats: int


class Times(NamedTuple):
    """Seconds of one save while training waits and of one while it goes on; the slowest rank counts."""

    waiting: float
    """How long training stops where it waits for the whole save."""
    copying: float
    """How long training stops where it waits for the copy alone."""
    step: float
    """How long a step takes with nothing else going on, the median of a few."""
    writing: float
    """How long the steps take, all together, that go on from the end of the copy to the end of the write."""
    steps: int
    """How many steps these are."""

    @property
    def cost(self) -> float:
        """What the save costs a run that goes on, the slow-down of steps included."""
        return self.copying + max(0.0, self.writing - self.steps * self.step)

    def row(self) -> list[object]:
        """A row of the table, in the order of COLUMNS."""
        slow = self.writing / max(1, self.steps)
        stop, cost = self.copying / self.waiting, self.cost / self.waiting
        return [self.waiting, self.copying, stop, self.step, slow, self.steps, cost]


def bench_checkpoint(case: CheckpointCase, folder: Path | None, out: Path | None) -> None:
    """Print, and write to `out`, the times of both ways of saving, in turns; the last row has the medians.

    Args:
        case: the model that is saved, and its ranks.
        folder: where checkpoints are written, on the disk to be measured; a temporary folder if not given.
        out: where the table goes.

    Raises:
        UserError: a rank ended early.
    """
    with tempfile.TemporaryDirectory(dir=folder) as temporary:
        config = _config(case, Path(temporary))
        size = config.model.num_parameters
        print(
            f"{size:,} parameters ({12 * size / 1e9:.2f} GB with AdamW's moments), {case.ranks} ranks, {case.zero}, "
            f"one thread each; seconds"
        )
        found = _in_ranks(case.ranks, _measure, config, case)
    print(f"{'waiting':>9} {'copying':>9} {'ratio':>7} {'step':>8} {'meanwhile':>10} {'steps':>6} {'cost ratio':>11}")
    rows = [times.row() for times in found]
    for row in rows:
        print(_line(row))
    medians: list[object] = [statistics.median(column) for column in zip(*rows, strict=True)]
    print(_line(medians) + "   medians")
    if out is not None:
        record(out, f"checkpoint-{case.ranks}-{case.zero}", COLUMNS, [*rows, medians], case._asdict())


def _line(row: list[Any]) -> str:
    waiting, copying, stop, step, slow, steps, cost = row
    return f"{waiting:>9.3f} {copying:>9.3f} {stop:>7.1%} {step:>8.3f} {slow:>10.3f} {steps:>6.0f} {cost:>11.1%}"


def _config(case: CheckpointCase, folder: Path) -> RunConfig:
    tree = {
        "name": "bench",
        "output_dir": str(folder),
        "model": {"d_model": case.d_model, "n_layer": case.n_layer, "l_max": case.seq_length, "embed_dropout": 0.0},
        "data": {"path": "none is read"},
        "train": {
            "curriculum": [{"seq_length": case.seq_length, "train_iters": 1}],
            "global_batch_size": case.ranks,
            "keep_last": 1,
        },
        "parallel": {"zero": case.zero},
    }
    return parse_config(tree, "bench checkpoint")


def _measure(config: RunConfig, case: CheckpointCase) -> list[Times]:
    mesh = initialize(config.parallel_of(config.train.curriculum[0]))
    torch.manual_seed(0)
    model = HyenaDNA(config.model, mesh).to(mesh.device)
    preset = read_preset(case.zero)
    optimizer = adamw(parameter_groups(model, config.optimizer), preset, lr=1e-4)
    engine = Engine(model, optimizer, mesh, preset, micro_batch_size=1, clip_grad=1.0)
    saver = CheckpointWriter(config.run_dir / "checkpoints", engine, {}, config, mesh, lambda _: None)
    tokens = torch.randint(7, 11, (1, case.seq_length), device=mesh.device)

    def step() -> None:
        engine.accumulate(
            lambda m: nll_sum(m, tokens, tokens, [0]), scale=1 / (case.ranks * case.seq_length), last=True
        )
        engine.step(1e-4)

    def save(number: int, wait: bool) -> None:
        saver.save(TrainState(step=number), wait=wait)

    step()
    save(0, wait=False)  # the first takes the memory for copies
    saver.finish()
    found = []
    for number in range(1, case.repeats + 1):
        baseline = statistics.median(_seconds(step, mesh) for _ in range(5))
        waiting = _seconds(lambda n=2 * number: save(n, wait=True), mesh)  # type: ignore[misc]
        copying = _seconds(lambda n=2 * number + 1: save(n, wait=False), mesh)  # type: ignore[misc]
        writing = 0.0
        steps = 0
        while mesh.world.any(saver.writing):
            writing += _seconds(step, mesh)
            steps += 1
        found.append(Times(waiting, copying, baseline, writing, steps))
    saver.finish()
    shutdown()
    return found


def _seconds(action: Callable[[], None], mesh: Mesh) -> float:
    """Return the seconds that the slowest rank takes where all start together."""
    mesh.world.barrier()
    start = now(mesh.device)
    action()
    return max(mesh.world.gather_objects(now(mesh.device) - start))


def _in_ranks(count: int, measure: Callable[..., Any], *arguments: Any) -> Any:
    """Return what measure(*arguments) returns on the first of `count` ranks, each a process of its own."""
    port = free_port()
    context = multiprocessing.get_context("spawn")
    receive, send = context.Pipe(duplex=False)
    processes = [
        context.Process(target=_rank, args=(rank, count, port, send, measure, arguments)) for rank in range(count)
    ]
    for process in processes:
        process.start()
    send.close()
    try:
        return receive.recv()
    except EOFError as error:
        raise UserError("a rank ended early, see above; try a smaller model") from error
    finally:
        for process in processes:
            process.join()


def _rank(
    rank: int, count: int, port: int, send: Connection, measure: Callable[..., Any], arguments: tuple[Any, ...]
) -> None:
    os.environ |= {"RANK": str(rank), "LOCAL_RANK": str(rank), "WORLD_SIZE": str(count)}
    os.environ |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
    torch.set_num_threads(1)
    result = measure(*arguments)
    if rank == 0:
        send.send(result)
