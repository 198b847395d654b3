"""Learning labels as an Objective, whatever gives them: measured on valid, and predicted by the best weights."""

import math
from abc import abstractmethod
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from dataclasses import asdict
from functools import cached_property
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from hyena_dist.config.run import RunConfig
from hyena_dist.data.loader import Loader, Read
from hyena_dist.errors import UserError
from hyena_dist.parallel.mesh import Mesh
from hyena_dist.tasks.best import Best, choose_goal
from hyena_dist.tasks.finished import predictions_file, write_finished
from hyena_dist.tasks.floors.run import check_floor
from hyena_dist.tasks.labelled_batches import LabelledReader
from hyena_dist.tasks.labelled_data import describe_data, labelled_data
from hyena_dist.tasks.labelling import Labelling
from hyena_dist.tasks.leaks import Leaks, describe_leaks, find_leaks
from hyena_dist.tasks.losses import criterion_of
from hyena_dist.tasks.metrics import metrics
from hyena_dist.tasks.predictions import Predictions
from hyena_dist.train.objective import Batch, Evaluation, MicroBatch, Objective, RunRecord
from hyena_dist.train.resume import ResumePoint

HELD_OUT = ("valid", "test")


class LabelLearning(Objective[MicroBatch]):
    """Learns the labels of sequences; the weights that are best on valid make the predictions.

    Args:
        config: a complete run with a task, as `load_task` gives it.

    Raises:
        UserError: data that cannot be read or does not suit the model, or a metric that the kind of labels lacks.
    """

    def __init__(self, config: RunConfig) -> None:
        if config.task is None:
            raise UserError(f"run {config.name} has no section `task`, which says what to learn; add one, or pretrain")
        self.config = config
        self.task = task = config.task
        layouts = [config.parallel_of(stage) for stage in config.train.curriculum]
        self.unit = math.lcm(*(config.layout_with(layout).length_unit for layout in layouts))
        """What lengths are multiples of, in every stage."""
        self.data = data = labelled_data(task, config.model.l_max // self.unit * self.unit)
        for floor in task.floors if task.report else ():
            check_floor(floor, data.kind)
        train, valid = data.splits["train"], data.splits["valid"]
        criterion = criterion_of(data.kind, train, len(data.classes), task.class_weights == "balanced")
        self.labelling = Labelling(data.classes, criterion, task)
        rows = int(valid.lengths.sum()) if data.kind == "per_base" else len(valid)
        self.goal = choose_goal(task.best_by, self.labelling.predictions(valid, torch.zeros(rows, len(data.classes))))

    @cached_property
    def leaks(self) -> Leaks:
        """What the held-out splits have in common with train."""
        return find_leaks(self.data)

    def describe_data(self) -> list[str]:
        """Return lines about the data for people: sizes, classes, and leaks."""
        told = zip(self.leaks.values(), describe_leaks(self.leaks), strict=True)
        return [*describe_data(self.data), *(f"WARNING: {line}" for leak, line in told if leak.all_held_out.size)]

    @property
    def scored(self) -> Mapping[str, Any]:
        """The number of examples that are predicted of each held-out split."""
        return {split: len(self.data.splits[split]) for split in HELD_OUT if split in self.data.splits}

    @abstractmethod
    def outputs(self, split: str, model: nn.Module, alive: Callable[[], None]) -> Tensor:
        """Return what a model gives for each example of a split, as `Labelling.predictions` takes it.

        Every rank gets the same; the model is left in the mode (train or eval) it came in.
        """

    @abstractmethod
    def model_at(self, step: int, mesh: Mesh) -> nn.Module:
        """Return the model of a checkpoint of the run, which is not the one that is trained, on the device."""

    def evaluate(
        self, model: nn.Module, mesh: Mesh, point: ResumePoint, *, step: int, final: bool, alive: Callable[[], None]
    ) -> Evaluation | None:
        """Measure on valid; at the end, write what the best weights predict of each held-out split."""
        best = Best(**self.memory)
        found: dict[str, float] = {}
        lines = []
        if best.evaluated != step:
            found, _ = self.measured_on("valid", model, alive)
            best = best.after(step, found[self.goal.metric], self.goal)
            self.memory = asdict(best)
            lines = [f"valid loss {found['loss']:.4f}, {self.goal.metric} {found[self.goal.metric]:.4f}"]
        logged = {f"valid/{name}": value for name, value in found.items() if "/" not in name}
        ends = self.task.patience is not None and best.since >= self.task.patience
        if not final:
            return Evaluation(logged, lines, best=best.step == step, ends=ends)
        record = {}
        chosen = model if best.step == step else self.model_at(best.step or 0, mesh)
        for split in (name for name in HELD_OUT if name in self.data.splits):
            record[split], predictions = self.measured_on(split, chosen, alive)
            path = predictions_file(self.config.run_dir, split)
            mesh.world.on_main(lambda of=predictions, to=path: of.save(to))  # type: ignore[misc]
            lines.append(f"{split} {self.goal.metric} {record[split][self.goal.metric]:.4f} with step {best.step:,}")
        logged |= {f"test/{name}": value for name, value in record.get("test", {}).items() if "/" not in name}
        return Evaluation(logged, lines, record | {"best": asdict(best)}, best=best.step == step)

    def measured_on(
        self, split: str, model: nn.Module, alive: Callable[[], None] = lambda: None
    ) -> tuple[dict[str, float], Predictions]:
        """Return loss and metrics of a model on a split, and its predictions; every rank gets the same."""
        examples, criterion = self.data.splits[split], self.labelling.criterion
        outputs = self.outputs(split, model, alive)
        predictions = self.labelling.predictions(examples, outputs)
        labels = torch.from_numpy(np.ascontiguousarray(predictions.labels))
        loss = float(criterion.loss_sum(outputs.double(), labels)) / (criterion.weight_sum(labels) or 1.0)
        return {"loss": loss} | metrics(predictions), predictions

    def report(self, run: RunRecord) -> None:
        """Write summary.json and the report of the task."""
        write_finished(run, self.task, self.data, self.leaks, self.goal)

    def reader(self, point: ResumePoint, mesh: Mesh) -> LabelledReader:
        """Return the reader of this rank's examples of train, by step."""
        train, criterion = self.data.splits["train"], self.labelling.criterion
        return LabelledReader(train, criterion, point.stages, self.config.seed, self.task.reverse_complement, mesh)

    def read_ahead(
        self, read: Read[Batch[MicroBatch]], steps: range
    ) -> AbstractContextManager[Iterable[Batch[MicroBatch]]]:
        """Return the batches of some steps, read ahead by a thread or by processes."""
        data = self.config.data
        return _open(Loader(read, steps, workers=data.workers, prefetch=data.prefetch, timeout_s=data.timeout_s))


@contextmanager
def _open(loader: Loader[Batch[MicroBatch]]) -> Iterator[Iterable[Batch[MicroBatch]]]:
    with loader:
        yield loader
