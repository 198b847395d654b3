"""The training run: data -> engine -> metrics, evaluation and checkpoints, from step 0 or from where it stopped."""

from collections.abc import Callable
from contextlib import nullcontext
from typing import Any, Literal

import numpy as np
import torch

from hyena_dist.config.run import RunConfig, StagePlan
from hyena_dist.data.batches import StepBatch, StepReader, inputs_and_targets
from hyena_dist.data.loader import Loader
from hyena_dist.data.store import GenomeStore
from hyena_dist.parallel.mesh import Mesh, cut
from hyena_dist.profile.traffic_report import TrafficReport
from hyena_dist.profile.watchdog import Watchdog
from hyena_dist.train import outcome
from hyena_dist.train.anomaly import AnomalyGuard, Rollback, leave_out
from hyena_dist.train.checkpoint.write import CheckpointWriter
from hyena_dist.train.evaluation.perplexity import evaluation_windows, perplexity
from hyena_dist.train.optimizer import learning_rate
from hyena_dist.train.outcome import Ending, Outcome
from hyena_dist.train.report import write_report
from hyena_dist.train.reporting import RunReporter
from hyena_dist.train.setup import Place, build, introduction
from hyena_dist.train.stop import StopSignal


class Loop:
    """What one set of processes does of a run; every rank has one."""

    def __init__(self, config: RunConfig, store: GenomeStore, place: Place, world: Mesh, profile: bool) -> None:
        self.config, self.store, self.place, self.state = config, store, place, place.state
        self.lengths = config.evaluation_lengths
        self.step: int = self.state["step"]
        self.mesh = mesh = cut(world, self.place.parallel)
        self.model, self.engine = build(config, mesh, self.place.segment, self.place.found)
        self.guard = AnomalyGuard(config.train, self.state)
        self.guard.read_left_out(config.run_dir)
        self.reporter = RunReporter(config, mesh, self.place.stages, self.state, self.engine.config)
        self.note = self.reporter.note
        self.checkpoints = CheckpointWriter(
            config.run_dir / "checkpoints", self.engine, self.model, config, mesh, self.note
        )
        zero = self.place.parallel.zero
        self.profile = TrafficReport(config, mesh, zero) if profile else None
        for line in introduction(config, self.place, mesh):
            self.note(line)

    def to_the_end(self, stop: StopSignal, on_hang: Callable[[str], None]) -> Outcome:
        """Train, save, and report if the run is done.

        Args:
            stop: asked once a step.
            on_hang: gets the watchdog's last words.
        """
        status: Literal["FINISHED", "FAILED", "KILLED"] = "FAILED"
        place = self.place
        try:
            with Watchdog(self.mesh, self.config.train.timeout_s, self.note, on_hang) as self.watchdog:
                if self.step < place.end_step:
                    self._train(stop)
                elif place.finished and self.state["scored"] != self._scored():
                    self._evaluate(place.segment[-1], final=True)
            ending: Ending = "finished" if self.step == place.stages[-1].end_step else "stage"
            if self.step < place.end_step:
                ending = "stopped"
            self.reporter.progress.close()  # what follows is a report, not progress
            result = Outcome(ending, self.step, place.stages_done(self.step), len(place.stages), self._sentence(ending))
            if ending == "finished":
                self._report()
            elif self.mesh.is_main:
                print(result.message, flush=True)
            if self.mesh.is_main:
                outcome.write(self.config.run_dir, result)
            status = "FINISHED" if ending == "finished" else "KILLED"
        except KeyboardInterrupt:
            status = "KILLED"
            raise
        finally:
            self.checkpoints.close()
            self.reporter.close(status)
        return result

    def _sentence(self, ending: Ending) -> str:
        place = self.place
        done = f"step {self.step:,} of {place.stages[-1].end_step:,}"
        if ending == "finished":
            return f"finished at {done}"
        if ending == "stopped":
            return f"stopped and saved at {done}; the same command continues"
        following = place.stages[place.stages_done(self.step)]
        return (
            f"stage {following.number} is done and saved at {done}; the same command, or the next job, starts stage "
            f"{following.number + 1} with {self.config.layout_of([following]).describe(self.mesh.world_size)}"
        )

    # --- the steps ---

    def _train(self, stop: StopSignal) -> None:
        config, mesh, place, clock = self.config, self.mesh, self.place, self.reporter.clock
        context = mesh.context.rank(), mesh.context.size()
        read = StepReader(
            self.store, place.stages, config.data, seed=config.seed, rank=mesh.data.rank(), context=context
        )
        self.model.train()
        with Loader(
            read,
            range(self.step, place.end_step),
            workers=config.data.workers,
            prefetch=config.data.prefetch,
            timeout_s=config.data.timeout_s,
        ) as batches:
            self.watchdog.at("data", self.step + 1)
            for batch in batches:
                if not self._step(batch, stop):
                    return
                self._after(batch.stage)
                clock.exclude_pause()
                self.watchdog.at("data", self.step + 1)
        self.checkpoints.finish()

    def _step(self, batch: StepBatch, stop: StopSignal) -> bool:
        """One optimizer step; False if training is to end before it."""
        step, mesh = batch.step + 1, self.mesh  # steps are counted when done
        with self.profile or nullcontext():
            # One exchange settles all that ranks must know alike.
            targets, stopped, failed = mesh.all_reduce_sums(
                batch.total_weight, stop.name is not None, self.checkpoints.failed
            )
            if failed:
                self.checkpoints.finish()
            if stopped:
                self.note(f"{stop.name or 'a signal on another rank'}: saving at step {self.step:,}")
                self._save(wait=True)
                return False
            self.step = step
            if self.guard.leaves_out(step):
                self.note(f"step {step:,} is left out")
                return True
            targets /= mesh.tensor.size()
            self._enter(batch.stage, first=batch.step == batch.stage.first_step)
            loss_sum = self._accumulate(batch, targets)
            loss, norm, lr = self._update(loss_sum, targets)
        self.reporter.clock.add(batch.stage.tokens_per_step, batch.wait_s)
        if step % self.config.train.log_interval == 0 or step == batch.stage.end_step:
            loss = self._mean(loss_sum, targets) if loss is None else loss
            self.reporter.step(step, batch.stage, loss=loss, norm=norm, lr=lr)
            for line in self.profile.report(step, batch.stage) if self.profile else []:
                self.note(line)
        return True

    def _update(self, loss_sum: torch.Tensor, targets: float) -> tuple[float | None, float, float]:
        """Let the optimizer step unless numbers went wrong: (mean loss if it was needed, gradient norm, rate)."""
        step, stages = self.step, self.place.stages
        lr = learning_rate(self.config.optimizer, self._tokens_at(step), stages[-1].tokens_at(stages[-1].end_step))
        self.watchdog.at("update", step)
        loss = self._mean(loss_sum, targets) if self.guard.needs_loss else None
        norm, applied = self.engine.step(lr, self.guard.norm_limit(loss))
        try:
            if sentence := self.guard.judge(step, loss, norm, applied, lr):
                self.note(sentence)
        except Rollback as error:
            rollback = error
            self.mesh.on_main(lambda: leave_out(self.config.run_dir, rollback))
            raise
        return loss, norm, lr

    def _accumulate(self, batch: StepBatch, targets: float) -> torch.Tensor:
        """Forward and backward of every micro-batch; this rank's summed loss, float64."""
        device, micro_batches = self.mesh.device, len(batch.first_samples)
        loss_sum = torch.zeros((), dtype=torch.float64, device=device)
        with self.model.share_filters(micro_batches if self.engine.late_gradients else 1):
            for a, first in enumerate(batch.first_samples):
                self.watchdog.at(f"micro-batch {a + 1} of {micro_batches}", batch.step + 1)
                inputs, labels = inputs_and_targets(batch.tokens[a].to(device))
                weights = None if batch.weights is None else batch.weights[a].to(device)
                # What is dropped depends on the samples, not on which rank has them or on what was drawn before.
                seeds = [_seed(self.config.seed, batch.step, first + i) for i in range(len(inputs))]
                last = a == micro_batches - 1
                loss_sum += self.engine.accumulate(
                    inputs, labels, seeds, weights=weights, scale=1 / (targets or 1.0), last=last
                )
        return loss_sum

    def _enter(self, stage: StagePlan, first: bool) -> None:
        """What a stage may change while processes stay."""
        self.model.backbone.activation_checkpointing = stage.parallel.activation_checkpointing
        if first and self.mesh.device.type == "cuda":
            torch.backends.cuda.cufft_plan_cache.clear()  # plans of lengths that do not come back keep work space
            torch.cuda.empty_cache()

    def _after(self, stage: StagePlan) -> None:
        """Evaluate and save where it is due."""
        step, settings, end = self.step, self.config.train, self.place.end_step
        final = step == self.place.stages[-1].end_step
        self.reporter.clock.exclude_pause()
        if final or _due(step, settings.eval_interval):
            self.watchdog.at("evaluation", step)
            self._evaluate(stage, final)
        if step == end or _due(step, settings.save_interval):
            self.watchdog.at("saving", step)
            self._save(wait=step == end)

    def _mean(self, loss_sum: torch.Tensor, targets: float) -> float:
        return self.mesh.all_reduce_sum(loss_sum.item()) / self.mesh.tensor.size() / (targets or 1.0)

    # --- between steps ---

    def _evaluate(self, stage: StagePlan, final: bool) -> None:
        settings = self.config.evaluation
        results = {}
        for length in self.lengths if final else self._interim_lengths():
            tokens = settings.max_tokens if final else settings.interval_max_tokens
            windows = evaluation_windows(self.store, settings.split, length, tokens)
            micro_batch_tokens = settings.micro_batch_tokens
            results[length] = perplexity(
                self.model,
                self.store,
                windows,
                self.mesh,
                micro_batch_tokens=micro_batch_tokens,
                report=lambda *_: self.watchdog.at("evaluation", self.step),
            )
        if results:
            self.reporter.evaluated(self.step, results)
        if final:
            self.state["evaluation"] = {str(n): p.to_json() for n, p in results.items()}
            self.state["scored"] = self._scored()

    def _interim_lengths(self) -> tuple[int, ...]:
        """The longest context that these processes are made for: all of them in the last segment, else none longer."""
        if self.place.segment[-1] is self.place.stages[-1]:
            return self.lengths[-1:]
        longest = max(stage.seq_length for stage in self.place.segment)
        unit = self.mesh.residual_shard[1]
        return tuple(n for n in self.lengths if n <= longest and n % unit == 0)[-1:]

    def _scored(self) -> dict[str, Any]:
        """What the final perplexities are measured on; a finished run is scored again if this changes."""
        settings = self.config.evaluation
        return {"split": settings.split, "lengths": list(self.lengths), "max_tokens": settings.max_tokens}

    def _save(self, wait: bool) -> None:
        self.state |= {
            "step": self.step,
            "tokens": self._tokens_at(self.step),
            "stage": self.place.stages_done(self.step),
            "stages": len(self.place.stages),
            "updates": self.step - len(self.guard.skipped),
            "world_size": self.mesh.world_size,
            "mlflow_run_id": self.reporter.run_id,
            "data": self.store.fingerprint,
        } | self.guard.state
        self.checkpoints.save(self.step, self.state, wait=wait)
        self.guard.saved(self.step)

    def _report(self) -> None:
        if self.mesh.is_main:
            reporter = self.reporter
            write_report(
                self.config.run_dir, self.config, self.store, self.state, reporter.trackers, reporter.ui_command, print
            )
        self.mesh.barrier()

    def _tokens_at(self, step: int) -> int:
        stages = self.place.stages
        return next((s for s in stages if step < s.end_step), stages[-1]).tokens_at(step)


def _due(step: int, interval: int) -> bool:
    return interval > 0 and step % interval == 0


def _seed(*numbers: int) -> int:
    return int(np.random.SeedSequence(numbers).generate_state(1)[0])
