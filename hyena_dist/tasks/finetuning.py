"""Fine-tuning as an Objective: labels of sequences, by a pretrained backbone with a head."""

import json
import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from hyena_dist.config.run import RunConfig
from hyena_dist.config.schedule import StagePlan
from hyena_dist.data.loader import Loader
from hyena_dist.errors import UserError
from hyena_dist.models.mixers.base import describe_mixers
from hyena_dist.models.published_config import write_fields
from hyena_dist.ops.precision import DTYPES
from hyena_dist.parallel.mesh import Mesh
from hyena_dist.parallel.transfer import to_device
from hyena_dist.plan.flops import step_flops
from hyena_dist.tasks import labelling
from hyena_dist.tasks.best import Best, choose_goal
from hyena_dist.tasks.build import take_weights, untrained
from hyena_dist.tasks.finished import predictions_file, write_finished
from hyena_dist.tasks.labelled_batches import VERSION, LabelledBatch, LabelledReader
from hyena_dist.tasks.labelled_data import describe_data, labelled_data
from hyena_dist.tasks.labelling import Labelling
from hyena_dist.tasks.losses import criterion_of
from hyena_dist.tasks.metrics import metrics
from hyena_dist.tasks.model import SequenceModel
from hyena_dist.tasks.predict import outputs_of
from hyena_dist.tasks.predictions import Predictions
from hyena_dist.train.checkpoint.keep import find_step
from hyena_dist.train.objective import Batch, Evaluation, Objective, RunRecord
from hyena_dist.train.resume import ResumePoint

HELD_OUT = ("valid", "test")


class Finetuning(Objective[LabelledBatch]):
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
        train, valid = data.splits["train"], data.splits["valid"]
        criterion = criterion_of(data.kind, train, len(data.classes), task.class_weights == "balanced")
        self.labelling = Labelling(data.classes, criterion, task)
        rows = int(valid.lengths.sum()) if data.kind == "per_base" else len(valid)
        self.goal = choose_goal(task.best_by, self.labelling.predictions(valid, torch.zeros(rows, len(data.classes))))

    @property
    def fingerprint(self) -> Any:
        """The hash of the labelled data, and the way in which batches are drawn from it."""
        return {"labelled": self.data.fingerprint, "batches": VERSION}

    @property
    def scored(self) -> Mapping[str, Any]:
        """The number of examples that are predicted of each held-out split."""
        return {split: len(self.data.splits[split]) for split in HELD_OUT if split in self.data.splits}

    def build_model(self, mesh: Mesh) -> SequenceModel:
        """Build the pretrained model with its new head."""
        model = untrained(self.config.model, self.labelling, mesh, DTYPES[self.config.precision], pretrained=True)
        self._trained = sum(parameter.numel() for parameter in model.parameters() if parameter.requires_grad)
        return model

    def load_model(self, checkpoint: Path, model: nn.Module, mesh: Mesh) -> None:
        """Copy the weights of a checkpoint, head and adapters included."""
        assert isinstance(model, SequenceModel)
        take_weights(model, checkpoint)

    def model_files(self, model: nn.Module) -> Mapping[str, str]:
        """Return architecture and labels, with which `load_classifier` reads a checkpoint."""
        config = write_fields(self.config.model, None)
        return {"config.json": json.dumps(config, indent=2) + "\n", labelling.FILE: self.labelling.to_json()}

    def batches(
        self, point: ResumePoint, steps: range, mesh: Mesh
    ) -> AbstractContextManager[Iterable[Batch[LabelledBatch]]]:
        """Return this rank's labelled sequences of some steps, read ahead by a thread or by processes."""
        read = LabelledReader(
            self.data.splits["train"],
            self.labelling.criterion,
            point.stages,
            self.config.seed,
            self.task.reverse_complement,
            mesh,
        )
        data = self.config.data
        return _open(Loader(read, steps, workers=data.workers, prefetch=data.prefetch, timeout_s=data.timeout_s))

    def loss(self, model: Callable[..., Any], micro_batch: LabelledBatch, device: torch.device) -> Tensor:
        """Return this rank's share of the summed loss of the known labels."""
        tokens, lengths, labels = (
            to_device(each, device) for each in (micro_batch.tokens, micro_batch.lengths, micro_batch.labels)
        )
        outputs = model(tokens, lengths, micro_batch.dropout_seeds)
        return self.labelling.criterion.loss_sum(outputs, labels) * micro_batch.share

    def step_flops(self, stage: StagePlan) -> float | None:
        """Return the FLOPs of a step by formula, at its full length; None where parts of the model stay as they are."""
        return step_flops(self.config, stage) if self.task.tune == "full" else None

    def evaluate(
        self, model: nn.Module, mesh: Mesh, point: ResumePoint, *, step: int, final: bool, alive: Callable[[], None]
    ) -> Evaluation | None:
        """Measure on valid; at the end, write what the best weights predict of each held-out split."""
        assert isinstance(model, SequenceModel)
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
        chosen = model if best.step == step else self._at(best.step, mesh)
        for split in self.scored:
            record[split], predictions = self.measured_on(split, chosen, alive)
            path = predictions_file(self.config.run_dir, split)
            mesh.world.on_main(lambda of=predictions, to=path: of.save(to))  # type: ignore[misc]
            lines.append(f"{split} {self.goal.metric} {record[split][self.goal.metric]:.4f} with step {best.step:,}")
        logged |= {f"test/{name}": value for name, value in record.get("test", {}).items() if "/" not in name}
        return Evaluation(logged, lines, record | {"best": asdict(best)}, best=best.step == step)

    def measured_on(
        self, split: str, model: SequenceModel, alive: Callable[[], None] = lambda: None
    ) -> tuple[dict[str, float], Predictions]:
        """Return loss and metrics of a model on a split, and its predictions; every rank gets the same."""
        examples, criterion = self.data.splits[split], self.labelling.criterion
        outputs = outputs_of(
            model,
            examples,
            self.data.kind,
            most=self.config.model.l_max // self.unit * self.unit,
            batch_tokens=self.config.evaluation.micro_batch_tokens,
            both_strands=self.task.average_strands,
            alive=alive,
        )
        predictions = self.labelling.predictions(examples, outputs)
        labels = torch.from_numpy(np.ascontiguousarray(predictions.labels))
        loss = float(criterion.loss_sum(outputs.double(), labels)) / (criterion.weight_sum(labels) or 1.0)
        return {"loss": loss} | metrics(predictions), predictions

    def report(self, run: RunRecord) -> None:
        """Write summary.json and the report of the task."""
        write_finished(run, self.data, self.goal)

    def describe(self, model: nn.Module, mesh: Mesh) -> Sequence[str]:
        """Return the data, what of the model is trained, and what its mixers say of how they run."""
        config, task = self.config, self.task
        return [
            *describe_data(self.data),
            f"{task.model}, {config.model.num_parameters:,} parameters; {self._trained:,} trained ({task.tune})",
            *describe_mixers(config.model, mesh.device, DTYPES[config.precision]),
        ]

    def enter_stage(self, model: nn.Module, stage: StagePlan) -> None:
        """Recompute activations or not, as the stage says."""
        assert isinstance(model, SequenceModel)
        model.backbone.activation_checkpointing = stage.parallel.activation_checkpointing

    def _at(self, step: int | None, mesh: Mesh) -> SequenceModel:
        """Return the model of a checkpoint, which is not the one that is trained."""
        assert step is not None
        dtype = DTYPES[self.config.precision]
        model = untrained(self.config.model, self.labelling, mesh, dtype)
        take_weights(model, find_step(self.config.run_dir / "checkpoints", step))
        return model.to(mesh.device)


@contextmanager
def _open(loader: Loader[Batch[LabelledBatch]]) -> Iterator[Iterable[Batch[LabelledBatch]]]:
    with loader:
        yield loader
