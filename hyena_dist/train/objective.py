"""The task of a run, as the loop sees it: batches in, a summed loss out, an evaluation and a report.

The loop, the engine, the anomaly guard, checkpoints, the reporter and jobs know nothing else of a task. Pretraining is
one Objective (train/pretraining.py); a fine-tuning task is another.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Generic, NamedTuple, TypeVar

import torch
from torch import Tensor, nn

from hyena_dist.config.run import RunConfig
from hyena_dist.config.schedule import StagePlan
from hyena_dist.parallel.mesh import Mesh
from hyena_dist.tracking import Trackers
from hyena_dist.train.checkpoint.load import load_tensors
from hyena_dist.train.resume import ResumePoint
from hyena_dist.train.state import TrainState

MicroBatch = TypeVar("MicroBatch")


class Batch(NamedTuple, Generic[MicroBatch]):
    """The share of one rank in one optimizer step."""

    stage: StagePlan
    step: int
    """The number of optimizer steps done before this one."""
    micro_batches: Sequence[MicroBatch]
    """The micro-batches, stage.gradient_accumulation_steps of them, each as `Objective.loss` takes it."""
    weight: float
    """The sum of the weights of this rank's targets. The step's loss is the sum of the losses over all ranks, divided
    by the sum of these; tensor ranks, which hold the same targets, each give the same weight."""


@dataclass(frozen=True)
class Evaluation:
    """The findings of an evaluation."""

    metrics: Mapping[str, float]
    """Numbers for metrics.jsonl and MLflow by name, such as valid/loss."""
    lines: Sequence[str] = ()
    """Sentences for people."""
    record: Mapping[str, Any] = field(default_factory=dict)
    """What the report of the finished run is made from, as JSON."""
    best: bool = False
    """Whether the model is the best so far: its checkpoint is saved now, and stays until another is better."""
    ends: bool = False
    """Whether training ends here, though the curriculum does not."""


class RunRecord(NamedTuple):
    """A finished run, for its report."""

    config: RunConfig
    state: TrainState
    trackers: Trackers
    ui_command: str | None
    """The command that shows the run in MLflow; None without MLflow."""
    note: Callable[[str], None]
    """Prints a line for people."""

    @property
    def folder(self) -> Path:
        """The run's folder."""
        return self.config.run_dir


class Objective(ABC, Generic[MicroBatch]):
    """The task of a run. Every rank makes an objective of its own, from the same configuration.

    `batches` takes a range of steps rather than a stage, so that data is read ahead across the stages' boundaries; and
    the weight that a step's loss is divided by comes with the batch, since the first backward pass needs it before the
    last forward pass has happened.
    """

    measure: str | None = None
    """The name of the number that people read beside the loss, such as ppl; None for none."""
    memory: Mapping[str, Any] = {}
    """What an evaluation must know of those before, as JSON: `evaluate` replaces it, checkpoints keep it, and processes
    that continue find it here."""

    @property
    @abstractmethod
    def fingerprint(self) -> Any:
        """What identifies the data, as JSON; a checkpoint continues on the same data alone."""

    @property
    def scored(self) -> Mapping[str, Any]:
        """What the last evaluation is measured on, as JSON; a finished run is evaluated again if this changes."""
        return {}

    @abstractmethod
    def build_model(self, mesh: Mesh) -> nn.Module:
        """Build the model on a rank, its parameters drawn from torch's seed; the loop moves it to the device."""

    def load_model(self, checkpoint: Path, model: nn.Module, mesh: Mesh) -> None:
        """Copy the weights of a checkpoint into a model, of which each tensor rank takes its part."""
        load_tensors(checkpoint / "model.safetensors", model, mesh)

    def model_files(self, model: nn.Module) -> Mapping[str, str]:
        """Return texts by file name that a checkpoint keeps beside the weights, to build the model again."""
        return {}

    @abstractmethod
    def batches(
        self, point: ResumePoint, steps: range, mesh: Mesh
    ) -> AbstractContextManager[Iterable[Batch[MicroBatch]]]:
        """Return this rank's batches of some steps, in order; what they hold depends on (config, step) alone."""

    @abstractmethod
    def loss(self, model: Callable[..., Any], micro_batch: MicroBatch, device: torch.device) -> Tensor:
        """Return the summed loss of a micro-batch on this rank, a number with gradient.

        Args:
            model: calls the model, by way of DeepSpeed's engine.
            micro_batch: one of `Batch.micro_batches`, on the CPU.
            device: where the model is.
        """

    def measured(self, loss: float) -> float | None:
        """Return the number named by `measure` for a mean loss."""
        return None

    def step_flops(self, stage: StagePlan) -> float | None:
        """Return the FLOPs of a step's forward and backward passes over all ranks, for MFU; None if not known."""
        return None

    @abstractmethod
    def evaluate(
        self, model: nn.Module, mesh: Mesh, point: ResumePoint, *, step: int, final: bool, alive: Callable[[], None]
    ) -> Evaluation | None:
        """Evaluate the model; every rank calls this and gets the same.

        Args:
            model: in training mode, in which it is left.
            mesh: the ranks that share the work.
            point: says what these processes are made for.
            step: optimizer steps done.
            final: whether training is done, so that `record` and `scored` count.
            alive: tells the watchdog that the evaluation gets on.

        Returns:
            What was found; None if these processes cannot evaluate in between.
        """

    @abstractmethod
    def report(self, run: RunRecord) -> None:
        """Write summary.json and plots into the folder of a finished run, and tell people; on the main process."""

    def describe(self, model: nn.Module, mesh: Mesh) -> Sequence[str]:
        """Return lines about data and model for people."""
        return ()

    def enter_stage(self, model: nn.Module, stage: StagePlan) -> None:
        """Change what a stage of the curriculum may change while processes stay."""

    def accumulation(self, model: nn.Module, micro_batches: int, late_gradients: bool) -> AbstractContextManager[None]:
        """Return a context around the forward and backward passes of one optimizer step.

        Args:
            model: the model that is trained.
            micro_batches: the number of micro-batches of this step.
            late_gradients: whether a parameter may get its gradient in the last of them alone.
        """
        return nullcontext()
