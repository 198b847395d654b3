"""The training run: data -> engine -> metrics, evaluation and checkpoints, from step 0 or from where it stopped."""

import json
import math
from contextlib import nullcontext
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch

from hyena_dist.config import RunConfig, StagePlan
from hyena_dist.config_file import dump_config
from hyena_dist.data.batches import StepBatch, StepReader, inputs_and_targets
from hyena_dist.data.loader import Loader
from hyena_dist.data.store import GenomeStore
from hyena_dist.errors import UserError
from hyena_dist.parallel.mesh import Mesh
from hyena_dist.tracking import JsonlTracker, MlflowTracker, Progress, Trackers, environment
from hyena_dist.train import checkpoint
from hyena_dist.train.clock import Clock, peak_gib
from hyena_dist.train.communication import CommunicationProfile
from hyena_dist.train.evaluate import evaluation_windows, perplexity
from hyena_dist.train.optimizer import learning_rate
from hyena_dist.train.report import write_report
from hyena_dist.train.setup import Resume, build, find_checkpoint, introduction


def train(config: RunConfig, mesh: Mesh, resume: Resume = "auto", profile_communication: bool = False) -> Path:
    """Run a configuration to its end; every rank calls this.

    What happens at a step is a function of (config, step): samples, learning rate, dropout. A run that was stopped,
    however rudely, therefore continues as if it had not been.

    Args:
        config: the run.
        mesh: this rank's groups.
        resume: "auto" continues from the newest intact checkpoint of the run's folder, "never" refuses a folder that
            has one.
        profile_communication: print what each logged step sent, and keep it in communication.csv.

    Returns:
        The run's folder, with summary.json.

    Raises:
        UserError: a configuration, store or checkpoint that cannot be used, or a gradient that is not finite.
    """
    return _Run(config, mesh, resume, profile_communication).to_the_end()


class _Run:
    def __init__(self, config: RunConfig, mesh: Mesh, resume: Resume, profile_communication: bool) -> None:
        self.config, self.mesh = config, mesh
        self.stages = config.stages(mesh.world_size)
        self.store = GenomeStore.open(config.data.path)
        self.lengths = config.evaluation_lengths
        for length in self.lengths:  # said now, not after a week of training
            evaluation_windows(self.store, config.evaluation.split, length, 1)
        self.folder = config.run_dir
        self.checkpoints = self.folder / "checkpoints"
        found = mesh.on_main(lambda: find_checkpoint(config, self.store, resume))
        self.state: dict[str, Any] = checkpoint.read_state(found) if found else {"step": 0}
        self.finished = self.state["step"] >= self.stages[-1].end_step
        self.model, self.engine = build(config, mesh, self.stages[0].micro_batch_size, found)
        self.progress = Progress(
            self.stages[-1].end_step,
            self.stages[-1].tokens_at(self.stages[-1].end_step),
            enabled=mesh.is_main,
            step=self.state["step"],
            tokens=self._tokens_at(self.state["step"]),
        )
        self.profile = CommunicationProfile(config, mesh) if profile_communication else None
        self.trackers = Trackers()
        self.run_id: str | None = None
        self.ui_command: str | None = None
        mesh.on_main(self._open_trackers)
        self._introduce(found)

    def to_the_end(self) -> Path:
        status: Literal["FINISHED", "FAILED", "KILLED"] = "FAILED"
        try:
            if not self.finished:
                self._train()
            elif self.state["scored"] != self._scored():
                self._evaluate(self.state["step"], final=True)
            self.progress.close()  # what follows is a report, not progress
            self._report()
            status = "FINISHED"
        except KeyboardInterrupt:
            status = "KILLED"
            raise
        finally:
            self.progress.close()
            self.trackers.finish(status)
        return self.folder

    # --- before the first step ---

    def _open_trackers(self) -> None:
        self.trackers.append(JsonlTracker(self.folder / "metrics.jsonl", self.state["step"] or None))
        settings = self.config.tracking
        if not settings.mlflow:
            return
        mlflow = MlflowTracker(
            settings.uri,
            settings.experiment,
            self.config.name,
            self.state.get("mlflow_run_id"),
            self.config.output_dir,
            settings.system_metrics,
            say=self.progress.note,
        )
        self.trackers.append(mlflow)
        self.run_id, self.ui_command = mlflow.run_id, mlflow.ui_command
        if not self.state["step"]:
            mlflow.log_params({**self.config.model_dump(mode="json"), "world_size": self.mesh.world_size})
        mlflow.log_text(dump_config(self.config), "run.yaml")
        mlflow.log_text(json.dumps(self.engine.config, indent=2), "deepspeed.json")
        mlflow.log_text(json.dumps(environment(), indent=2, default=str), "environment.json")

    def _introduce(self, found: Path | None) -> None:
        for line in introduction(self.config, self.stages, self.mesh):
            self.progress.note(line)
        if self.finished:
            self.progress.note(f"already trained to step {self.state['step']:,}; keeping {found}")
        elif found:
            self.progress.note(f"continuing from {found}")

    # --- the steps ---

    def _train(self) -> None:
        config, mesh, last_step = self.config, self.mesh, self.stages[-1].end_step
        context = mesh.context.rank(), mesh.context.size()
        read = StepReader(
            self.store, self.stages, config.data, seed=config.seed, rank=mesh.data.rank(), context=context
        )
        steps = range(self.state["step"], last_step)
        self.model.train()
        clock = Clock()
        with Loader(read, steps, workers=config.data.workers, prefetch=config.data.prefetch) as batches:
            for batch in batches:
                step = batch.step + 1  # steps are counted when done
                with self.profile or nullcontext():
                    loss_sum, total, norm, lr = self._step(batch)
                clock.add(batch.stage.tokens_per_step, batch.wait_s)
                if step % config.train.log_interval == 0 or step == batch.stage.end_step:
                    self._log(step, batch.stage, loss_sum, total, norm, lr, clock)
                if step == last_step or _due(step, config.train.eval_interval):
                    self._evaluate(step, final=step == last_step)
                    clock.skip()
                if step == last_step or _due(step, config.train.save_interval):
                    self._save(step)
                    clock.skip()

    def _step(self, batch: StepBatch) -> tuple[torch.Tensor, float, float, float]:
        """One optimizer step: (this rank's summed loss, weight of all targets over all ranks, gradient norm, rate)."""
        config = self.config
        total = self.mesh.all_reduce_sum(batch.total_weight) / self.mesh.tensor.size()
        loss_sum = torch.zeros((), dtype=torch.float64, device=self.mesh.device)
        micro_batches = len(batch.first_samples)
        with self.model.share_filters(micro_batches if self.engine.late_gradients else 1):
            for a, first in enumerate(batch.first_samples):
                inputs, targets = inputs_and_targets(batch.tokens[a].to(self.mesh.device))
                weights = None if batch.weights is None else batch.weights[a].to(self.mesh.device)
                # What is dropped depends on the samples, not on which rank has them or on what was drawn before.
                seeds = [_seed(config.seed, batch.step, first + i) for i in range(len(inputs))]
                last = a == micro_batches - 1
                loss_sum += self.engine.accumulate(
                    inputs, targets, seeds, weights=weights, scale=1 / (total or 1.0), last=last
                )
        lr = learning_rate(config.optimizer, self._tokens_at(batch.step + 1), self._tokens_at(self.stages[-1].end_step))
        norm = self.engine.step(lr)
        if not math.isfinite(norm):
            raise UserError(
                f"the gradient norm is {norm} at step {batch.step + 1} (learning rate {lr:.2e}); lower optimizer.lr "
                f"or lengthen optimizer.lr_warmup_tokens and resume: checkpoints before this step are untouched"
            )
        return loss_sum, total, norm, lr

    def _log(
        self, step: int, stage: StagePlan, loss_sum: torch.Tensor, total: float, norm: float, lr: float, clock: Clock
    ) -> None:
        loss = self.mesh.all_reduce_sum(loss_sum.item()) / self.mesh.tensor.size() / (total or 1.0)
        rate, step_s, wait_s, wait_share = clock.lap()
        tokens, memory = stage.tokens_at(step), peak_gib(self.mesh.device)
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
        for line in self.profile.report(step, stage) if self.profile else []:
            self.progress.note(line)

    def _evaluate(self, step: int, final: bool) -> None:
        settings = self.config.evaluation
        results = {}
        for length in self.lengths if final else self.lengths[-1:]:
            tokens = settings.max_tokens if final else settings.interval_max_tokens
            windows = evaluation_windows(self.store, settings.split, length, tokens)
            micro_batch_tokens = settings.micro_batch_tokens
            results[length] = perplexity(
                self.model, self.store, windows, self.mesh, micro_batch_tokens=micro_batch_tokens
            )
            self.progress.note(f"step {step:,}: {settings.split} perplexity at context {length:,}: {results[length]}")
        longest = results[self.lengths[-1]]
        metrics = {f"valid/{settings.split}/loss": longest.loss, f"valid/{settings.split}/ppl": longest.ppl}
        metrics |= {f"valid/{settings.split}/ppl_{n}": p.ppl for n, p in results.items()}
        self.trackers.log_metrics(metrics, step)
        if final:
            self.state["evaluation"] = {str(n): p.to_json() for n, p in results.items()}
            self.state["scored"] = self._scored()

    def _scored(self) -> dict[str, Any]:
        """What the final perplexities are measured on; a finished run is scored again if this changes."""
        settings = self.config.evaluation
        return {"split": settings.split, "lengths": list(self.lengths), "max_tokens": settings.max_tokens}

    def _save(self, step: int) -> None:
        self.state |= {
            "step": step,
            "tokens": self._tokens_at(step),
            "world_size": self.mesh.world_size,
            "mlflow_run_id": self.run_id,
            "data": self.store.fingerprint,
        }
        path = checkpoint.save(self.checkpoints, step, self.engine, self.model, self.config, self.state, self.mesh)
        self.progress.note(f"step {step:,}: saved {path}")

    def _report(self) -> None:
        if self.mesh.is_main:
            write_report(self.folder, self.config, self.store, self.state, self.trackers, self.ui_command, print)
        self.mesh.barrier()

    def _tokens_at(self, step: int) -> int:
        stage = next((s for s in self.stages if step < s.end_step), self.stages[-1])
        return stage.tokens_at(step)


def _due(step: int, interval: int) -> bool:
    return interval > 0 and step % interval == 0


def _seed(*numbers: int) -> int:
    return int(np.random.SeedSequence(numbers).generate_state(1)[0])
