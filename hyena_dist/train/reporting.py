"""What a run tells while it trains: progress for people, metrics.jsonl, MLflow."""

import json
import math
from typing import Any, Literal

from hyena_dist.config.file import dump_config
from hyena_dist.config.run import RunConfig
from hyena_dist.config.schedule import StagePlan
from hyena_dist.parallel.mesh import Mesh
from hyena_dist.profile.clock import Clock, peak_bytes
from hyena_dist.tracking import JsonlTracker, MlflowTracker, Trackers, TrainingProgress, environment
from hyena_dist.train.evaluation.perplexity import Perplexity


class RunReporter:
    """Rank 0 writes; on other ranks nothing happens. Every rank makes one, together.

    Args:
        config: the run.
        mesh: this rank's groups.
        stages: the curriculum.
        state: of the checkpoint that the run continues from; {"step": 0} at its start.
        deepspeed: what DeepSpeed was given, for the record.

    Raises:
        UserError: metrics.jsonl cannot be written, or MLflow not be reached.
    """

    def __init__(
        self,
        config: RunConfig,
        mesh: Mesh,
        stages: tuple[StagePlan, ...],
        state: dict[str, Any],
        deepspeed: dict[str, Any],
    ) -> None:
        self.config, self.mesh = config, mesh
        last, step = stages[-1], state["step"]
        stage = next((s for s in stages if step < s.end_step), last)
        self.progress = TrainingProgress(
            last.end_step,
            last.tokens_at(last.end_step),
            enabled=mesh.world.is_main,
            step=step,
            tokens=stage.tokens_at(step),
        )
        self.note = self.progress.note
        self.clock = Clock()
        self.trackers = Trackers()
        self.run_id: str | None = None
        self.ui_command: str | None = None
        mesh.world.on_main(lambda: self._open(state, deepspeed))

    def _open(self, state: dict[str, Any], deepspeed: dict[str, Any]) -> None:
        config, settings = self.config, self.config.tracking
        self.trackers.append(JsonlTracker(config.run_dir / "metrics.jsonl", state["step"] or None))
        if not settings.mlflow:
            return
        mlflow = MlflowTracker(
            settings.uri,
            settings.experiment,
            config.name,
            state.get("mlflow_run_id"),
            config.output_dir,
            settings.system_metrics,
            say=self.note,
        )
        self.trackers.append(mlflow)
        self.run_id, self.ui_command = mlflow.run_id, mlflow.ui_command
        if not state["step"]:
            mlflow.log_params({**config.model_dump(mode="json"), "world_size": self.mesh.world.size})
        mlflow.log_text(dump_config(config), "run.yaml")
        mlflow.log_text(json.dumps(deepspeed, indent=2), "deepspeed.json")
        mlflow.log_text(json.dumps(environment(), indent=2, default=str), "environment.json")

    def step(self, step: int, stage: StagePlan, *, loss: float, norm: float, lr: float) -> None:
        """The state of training after `step` steps; rates are over the steps since the last call."""
        rate, step_s, wait_s, wait_share = self.clock.lap()
        tokens, memory = stage.tokens_at(step), peak_bytes(self.mesh.device) / 2**30
        self.trackers.log_metrics(
            {
                "train/loss": loss,
                "train/ppl": math.exp(min(loss, 700)),
                "train/lr": lr,
                "train/grad_norm": norm,
                "train/tokens": tokens,
                "train/seq_length": stage.seq_length,
                "throughput/tokens_per_second": rate,
                "time/step_s": step_s,
                "time/data_s": wait_s,
                "memory/peak_gib": memory,
            },
            step,
        )
        self.progress.update(
            step=step,
            tokens=tokens,
            seq_length=stage.seq_length,
            loss=loss,
            lr=lr,
            grad_norm=norm,
            tokens_per_second=rate,
            memory_gib=memory,
            data_wait=wait_share,
        )

    def evaluated(self, step: int, results: dict[int, Perplexity]) -> None:
        """Held-out perplexity by context length; the longest is the run's."""
        split, longest = self.config.evaluation.split, results[max(results)]
        for length, found in results.items():
            self.note(f"step {step:,}: {split} perplexity at context {length:,}: {found}")
        metrics = {f"valid/{split}/loss": longest.loss, f"valid/{split}/ppl": longest.ppl}
        self.trackers.log_metrics(metrics | {f"valid/{split}/ppl_{n}": p.ppl for n, p in results.items()}, step)

    def close(self, status: Literal["FINISHED", "FAILED", "KILLED"]) -> None:
        """Let go of the terminal and of the trackers."""
        self.progress.close()
        self.trackers.finish(status)
