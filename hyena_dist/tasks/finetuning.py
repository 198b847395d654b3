"""Fine-tuning as an Objective: labels of sequences, by a pretrained backbone with a head."""

import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from hyena_dist.config.schedule import StagePlan
from hyena_dist.models.mixers.base import describe_mixers
from hyena_dist.models.published_config import write_fields
from hyena_dist.ops.precision import DTYPES
from hyena_dist.parallel.mesh import Mesh
from hyena_dist.parallel.transfer import to_device
from hyena_dist.plan.flops import step_flops
from hyena_dist.tasks import labelling
from hyena_dist.tasks.build import take_weights, untrained
from hyena_dist.tasks.labelled_batches import VERSION, LabelledBatch
from hyena_dist.tasks.learning import LabelLearning
from hyena_dist.tasks.model import SequenceModel
from hyena_dist.tasks.predict import outputs_of
from hyena_dist.train.checkpoint.keep import find_step
from hyena_dist.train.objective import Batch
from hyena_dist.train.resume import ResumePoint


class Finetuning(LabelLearning[LabelledBatch]):
    """Learns the labels of sequences by a head on the backbone; see LabelLearning."""

    @property
    def fingerprint(self) -> Any:
        """The hash of the labelled data, and the way in which batches are drawn from it."""
        return {"labelled": self.data.fingerprint, "batches": VERSION}

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
        return self.read_ahead(self.reader(point, mesh), steps)

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

    def outputs(self, split: str, model: nn.Module, alive: Callable[[], None]) -> Tensor:
        """Return what the head gives for each example."""
        assert isinstance(model, SequenceModel)
        return outputs_of(
            model,
            self.data.splits[split],
            self.data.kind,
            most=self.config.model.l_max // self.unit * self.unit,
            batch_tokens=self.config.evaluation.micro_batch_tokens,
            both_strands=self.task.average_strands,
            report=lambda _: alive(),
        )

    def describe(self, model: nn.Module, mesh: Mesh) -> Sequence[str]:
        """Return the data, what of the model is trained, and what its mixers say of how they run."""
        config, task = self.config, self.task
        return [
            *(self.describe_data() if mesh.world.is_main else ()),
            f"{task.model}, {config.model.num_parameters:,} parameters; {self._trained:,} trained ({task.tune})",
            *describe_mixers(config.model, mesh.device, DTYPES[config.precision]),
        ]

    def enter_stage(self, model: nn.Module, stage: StagePlan) -> None:
        """Recompute activations or not, as the stage says."""
        assert isinstance(model, SequenceModel)
        model.backbone.activation_checkpointing = stage.parallel.activation_checkpointing

    def model_at(self, step: int, mesh: Mesh) -> SequenceModel:
        """Return the model of a checkpoint."""
        model = untrained(self.config.model, self.labelling, mesh, DTYPES[self.config.precision])
        take_weights(model, find_step(self.config.run_dir / "checkpoints", step))
        return model.to(mesh.device)
