"""The reports of a run while it trains: progress for people, metrics.jsonl, MLflow."""

import json
from hashlib import sha256
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
from hyena_dist.train.outcome import Ending
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
        self.mlflow: MlflowTracker | None = None
        mesh.world.on_main(lambda: self._open(point.state, deepspeed))

    def _open(self, state: TrainState, deepspeed: dict[str, Any]) -> None:
        config = self.config
        settings = config.tracking
        self.trackers.append(JsonlTracker(config.run_dir / "metrics.jsonl", state.step or None))
        if not settings.mlflow:
            return
        self.mlflow = mlflow = MlflowTracker(
            settings.uri,
            settings.experiment,
            config.name,
            config.run_dir,
            config.output_dir,
            settings.system_metrics,
            run_id=state.mlflow_run_id,
            settings=settings_hash(config),
            anew=not state.step,
            say=self.note,
        )
        self.trackers.append(mlflow)
        mlflow.log_params({**config.model_dump(mode="json"), "world_size": self.mesh.world.size})
        mlflow.log_text(dump_config(config), "run.yaml")
        mlflow.log_text(json.dumps(deepspeed, indent=2), "deepspeed.json")
        mlflow.log_text(json.dumps(environment(), indent=2, default=str), "environment.json")

    @property
    def run_id(self) -> str | None:
        """The id of the MLflow run; None without MLflow, and on other ranks than 0."""
        return self.mlflow.run_id if self.mlflow else None

    @property
    def ui_command(self) -> str | None:
        """The command or address that shows the MLflow run; None where there is none."""
        return self.mlflow.ui_command if self.mlflow else None

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


def ending_sentence(ending: Ending, config: RunConfig, point: ResumePoint, step: int, ranks: int) -> str:
    """Return a sentence that tells people how these processes ended at a step, and what comes next."""
    done = f"step {step:,} of {point.last_step:,}"
    if ending == "finished":
        return f"finished at {done}"
    if ending == "stopped":
        return f"stopped and saved at {done}; the same command continues"
    following = point.stages[point.stages_done(step)]
    return (
        f"stage {following.number} is done and saved at {done}; the same command, or the next job, starts stage "
        f"{following.number + 1} with {config.layout_of([following]).describe(ranks)}"
    )


def settings_hash(config: RunConfig) -> str:
    """Return a hash of all settings but where they are tracked, 16 hexadecimal digits."""
    return sha256(config.model_dump_json(exclude={"tracking"}).encode()).hexdigest()[:16]
