"""The reports of a run while it trains: progress for people, metrics.jsonl, MLflow."""

import json
from typing import Any, Literal

from hyena_dist.config.file import dump_config
from hyena_dist.config.run import RunConfig
from hyena_dist.config.schedule import StagePlan
from hyena_dist.parallel.mesh import Mesh
from hyena_dist.profile.memory import peak_bytes
from hyena_dist.profile.mfu import describe_peak, mfu, peak_flops
from hyena_dist.profile.phases import Phases
from hyena_dist.tracking import JsonlTracker, MlflowTracker, Trackers, TrainingProgress, environment
from hyena_dist.train.objective import Evaluation, Objective
from hyena_dist.train.resume import ResumePoint
from hyena_dist.train.state import TrainState


class RunReporter:
    """Tells people and trackers how a run goes: rank 0 writes, the others do nothing. All ranks make one together.

    Args:
        config: the run.
        mesh: this rank's groups.
        point: where these processes take the run up.
        objective: says what people read beside the loss.
        phases: the phases that this rank goes through, from which times and rates come.
        deepspeed: the configuration that DeepSpeed was given, for the record.

    Raises:
        UserError: metrics.jsonl cannot be written, or MLflow cannot be reached.
    """

    def __init__(
        self,
        config: RunConfig,
        mesh: Mesh,
        point: ResumePoint,
        objective: Objective[Any],
        phases: Phases,
        deepspeed: dict[str, Any],
    ) -> None:
        self.config = config
        self.mesh = mesh
        self.objective = objective
        step = point.state.step
        self.progress = TrainingProgress(
            point.last_step,
            point.tokens_at(point.last_step),
            enabled=mesh.world.is_main,
            measure=objective.measure,
            step=step,
            tokens=point.tokens_at(step),
        )
        self.note = self.progress.note
        self.phases = phases
        self.peak_flops = peak_flops(mesh.device, config.precision)
        self.trackers = Trackers()
        self.run_id: str | None = None
        self.ui_command: str | None = None
        mesh.world.on_main(lambda: self._open(point.state, deepspeed))

    def _open(self, state: TrainState, deepspeed: dict[str, Any]) -> None:
        config = self.config
        settings = config.tracking
        self.trackers.append(JsonlTracker(config.run_dir / "metrics.jsonl", state.step or None))
        if not settings.mlflow:
            return
        mlflow = MlflowTracker(
            settings.uri,
            settings.experiment,
            config.name,
            state.mlflow_run_id,
            config.output_dir,
            settings.system_metrics,
            say=self.note,
        )
        self.trackers.append(mlflow)
        self.run_id = mlflow.run_id
        self.ui_command = mlflow.ui_command
        if not state.step:
            mlflow.log_params({**config.model_dump(mode="json"), "world_size": self.mesh.world.size})
        mlflow.log_text(dump_config(config), "run.yaml")
        mlflow.log_text(json.dumps(deepspeed, indent=2), "deepspeed.json")
        mlflow.log_text(json.dumps(environment(), indent=2, default=str), "environment.json")

    def describe_peak(self) -> str:
        """Return a sentence about what model FLOPs utilization is a share of."""
        return describe_peak(self.mesh.device, self.config.precision, self.peak_flops)

    def step(self, step: int, stage: StagePlan, *, loss: float | None, norm: float, lr: float) -> None:
        """Report the state of training after `step` steps; rates are over the steps since the last call.

        A step without a target that counts has no loss, so that none is logged.
        """
        lap = self.phases.lap()
        timing = lap.metrics()
        tokens = stage.tokens_at(step)
        memory = peak_bytes(self.mesh.device) / 2**30
        measured = None if loss is None else self.objective.measured(loss)
        flops = self.objective.step_flops(stage)
        if flops is not None and self.peak_flops is not None:
            timing |= {"throughput/mfu": mfu(flops, lap.step_s, self.peak_flops, self.mesh.world.size)}
        self.trackers.log_metrics(
            {
                **({} if loss is None else {"train/loss": loss}),
                **({} if measured is None else {f"train/{self.objective.measure}": measured}),
                "train/lr": lr,
                "train/grad_norm": norm,
                "train/tokens": tokens,
                "train/seq_length": stage.seq_length,
                "throughput/tokens_per_second": lap.tokens_per_second,
                "memory/peak_gib": memory,
                **timing,
            },
            step,
        )
        self.progress.update(
            step=step,
            tokens=tokens,
            seq_length=stage.seq_length,
            loss=loss,
            measured=measured,
            lr=lr,
            grad_norm=norm,
            tokens_per_second=lap.tokens_per_second,
            memory_gib=memory,
            data_wait=lap.data_share,
            ends_stage=step == stage.end_step,
        )

    def evaluated(self, step: int, found: Evaluation) -> None:
        """Tell what an evaluation after `step` steps found."""
        for line in found.lines:
            self.note(f"step {step:,}: {line}")
        self.trackers.log_metrics(found.metrics, step)

    def close(self, status: Literal["FINISHED", "FAILED", "KILLED"]) -> None:
        """Let go of the terminal and of the trackers."""
        self.progress.close()
        self.trackers.finish(status)
