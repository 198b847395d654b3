"""The training loop: batches of an objective -> engine -> metrics, evaluation and checkpoints."""

from collections.abc import Callable, Collection
from contextlib import nullcontext
from dataclasses import replace
from typing import Any, Literal

import torch

from hyena_dist.config.run import RunConfig
from hyena_dist.config.schedule import StagePlan
from hyena_dist.ops import tuning
from hyena_dist.ops.precision import DTYPES
from hyena_dist.parallel.mesh import build_mesh
from hyena_dist.parallel.world import World
from hyena_dist.profile.phases import Phases
from hyena_dist.profile.trace import Trace, choose_steps
from hyena_dist.profile.traffic_report import TrafficReport
from hyena_dist.profile.watchdog import Watchdog
from hyena_dist.train import outcome
from hyena_dist.train.anomaly import AnomalyGuard, Rollback, leave_out
from hyena_dist.train.checkpoint.write import CheckpointWriter
from hyena_dist.train.choices import settle
from hyena_dist.train.interval_loss import IntervalLoss
from hyena_dist.train.lr import learning_rate
from hyena_dist.train.objective import Batch, Evaluation, Objective, RunRecord
from hyena_dist.train.outcome import Ending, Outcome
from hyena_dist.train.reporting import RunReporter, ending_sentence
from hyena_dist.train.resume import ResumePoint
from hyena_dist.train.setup import build, introduction
from hyena_dist.train.stop import StopSignal


class Loop:
    """The part of a run that one set of processes does; every rank has a loop.

    Args:
        config: the run, planned for these ranks.
        objective: what it optimises.
        point: where these processes take it up.
        world: all ranks.
        profile: "comm" to count what each step sends, "trace" to record the operators of some steps.
        profile_steps: first and last step of a trace, counted from where these processes enter each stage.
    """

    def __init__(
        self,
        config: RunConfig,
        objective: Objective[Any],
        point: ResumePoint,
        world: World,
        profile: Collection[str] = (),
        profile_steps: tuple[int, int] = (3, 5),
    ) -> None:
        self.config = config
        self.objective = objective
        self.point = point
        self.state = point.state
        self.step = point.state.step
        objective.memory = point.state.memory
        self._entered: StagePlan | None = None
        self.mesh = build_mesh(world, point.parallel)
        self.phases = Phases(self.mesh.device, self.step)
        self.model, self.engine = build(objective, config, self.mesh, point, self.phases)
        self.guard = AnomalyGuard(config.train, point.state)
        self.guard.read_left_out(config.run_dir)
        self.losses = IntervalLoss(self.mesh, point.state.unreported)
        self.reporter = RunReporter(config, self.mesh, point, objective, self.phases, self.engine.config)
        self.note = self.reporter.note
        self.checkpoints = CheckpointWriter(
            config.run_dir / "checkpoints",
            self.engine,
            objective.model_files(self.model),
            config,
            self.mesh,
            self.note,
        )
        self.traffic = TrafficReport(config, self.mesh) if "comm" in profile else None
        self.trace = Trace(
            config.run_dir / "trace",
            self.phases,
            choose_steps(profile_steps, point.segment, self.step) if "trace" in profile else [],
            rank=world.rank,
            device=self.mesh.device,
            note=self.note,
        )
        for line in introduction(objective, self.model, config, point, self.mesh):
            self.note(line)
        self.note(f"  {self.reporter.describe_peak()}")

    def to_the_end(self, stop: StopSignal, on_hang: Callable[[str], None]) -> Outcome:
        """Train, save, and report if the run is done.

        Args:
            stop: asked once a step whether to end.
            on_hang: called with the watchdog's last words.
        """
        status: Literal["FINISHED", "FAILED", "KILLED"] = "FAILED"
        point = self.point
        try:
            timeout_s = self.config.train.timeout_s
            with Watchdog(self.mesh.world, self.phases, timeout_s, self.note, on_hang), self.trace:
                if self.step < point.end_step and not point.finished:
                    self._train(stop)
                elif point.finished and self.state.scored != self.objective.scored:
                    self._evaluate(final=True)
            ending: Ending = "finished" if self._is_over else "stage"
            if self.step < point.end_step and not self._is_over:
                ending = "stopped"
            self.reporter.progress.close()  # what follows is a report, not progress
            sentence = ending_sentence(ending, self.config, point, self.step, self.mesh.world.size)
            result = Outcome(ending, self.step, self._stages_done, len(point.stages), sentence)
            if ending == "finished":
                self._report()
            elif self.mesh.world.is_main:
                print(result.message, flush=True)
            if self.mesh.world.is_main:
                outcome.write(self.config.run_dir, result)
            status = "FINISHED" if ending == "finished" else "KILLED"
        except KeyboardInterrupt:
            status = "KILLED"
            raise
        finally:
            self.checkpoints.close()
            self.reporter.close(status)
        return result

    @property
    def _is_over(self) -> bool:
        """Whether the run has come to its end: that of its curriculum, or the one that its objective has set."""
        return self.state.ended or self.step == self.point.last_step

    @property
    def _stages_done(self) -> int:
        return len(self.point.stages) if self.state.ended else self.point.stages_done(self.step)

    # --- the steps ---

    def _train(self, stop: StopSignal) -> None:
        self.model.train()
        with self.objective.batches(self.point, range(self.step, self.point.end_step), self.mesh) as batches:
            waiting = iter(batches)
            while (batch := self._next(waiting)) is not None:
                if not self._step(batch, stop):
                    return
                self._after()
                if self.state.ended:
                    break
        self.checkpoints.finish()

    def _next(self, batches: Any) -> Batch[Any] | None:
        self.trace.before(self.step + 1)
        self.phases.enter("data", self.step + 1)
        batch: Batch[Any] | None = next(batches, None)
        return batch

    def _step(self, batch: Batch[Any], stop: StopSignal) -> bool:
        """Take one optimizer step; return False if training is to end before it."""
        mesh = self.mesh
        with self.traffic or nullcontext():
            self.phases.enter("reduce", detail="what all ranks must know")
            # One exchange settles all that ranks must know alike.
            weight, stopped, failed = mesh.world.all_reduce_sums(
                batch.weight, stop.name is not None, self.checkpoints.failed
            )
            if failed:
                self.checkpoints.finish()
            if stopped:
                self.note(f"{stop.name or 'a signal on another rank'}: saving at step {self.step:,}")
                self._save(wait=True)
                return False
            self.phases.enter("other")
            self.step = batch.step + 1  # steps are counted when done
            if self.guard.leaves_out(self.step):
                self.note(f"step {self.step:,} is left out")
                return True
            weight /= mesh.tensor.size()
            self._enter(batch.stage, first=batch.step == batch.stage.first_step)
            self.losses.add(self._accumulate(batch, weight), weight)
            norm, lr = self._update()
        self.phases.enter("other")
        self.phases.add(batch.stage.tokens_per_step)
        if self.step % self.config.train.log_interval == 0 or self.step == batch.stage.end_step:
            self.reporter.step(self.step, batch.stage, loss=self.losses.end(), norm=norm, lr=lr)
            for line in self.traffic.report(self.step, batch.stage) if self.traffic else []:
                self.note(line)
        return True

    def _enter(self, stage: StagePlan, first: bool) -> None:
        """Change what a stage may change while processes stay."""
        self.objective.enter_stage(self.model, stage)
        if first and self.mesh.device.type == "cuda":
            torch.backends.cuda.cufft_plan_cache.clear()  # plans of lengths that do not come back keep work space
            torch.cuda.empty_cache()
        if stage != self._entered:
            self._entered = stage
            if line := settle(self.model, stage, self.mesh, DTYPES[self.config.precision]):
                self.note(line)

    def _accumulate(self, batch: Batch[Any], weight: float) -> torch.Tensor:
        """Run forward and backward of every micro-batch; return this rank's summed loss, float64."""
        objective = self.objective
        device = self.mesh.device
        count = len(batch.micro_batches)
        loss_sum = torch.zeros((), dtype=torch.float64, device=device)
        with objective.accumulation(self.model, count, self.engine.late_gradients):
            for index, micro_batch in enumerate(batch.micro_batches):
                self.phases.enter("forward", batch.step + 1, f"micro-batch {index + 1} of {count}")
                loss_sum += self.engine.accumulate(
                    lambda model, of=micro_batch: objective.loss(model, of, device),  # type: ignore[misc]
                    scale=1 / (weight or 1.0),
                    last=index == count - 1,
                )
        return loss_sum

    def _update(self) -> tuple[float, float]:
        """Let the optimizer step unless numbers went wrong; return gradient norm and learning rate."""
        step = self.step
        tokens = self.point.tokens_at(step)
        lr = learning_rate(self.config.optimizer, tokens, self.point.tokens_at(self.point.last_step))
        self.phases.enter("optimizer", step)
        loss = self.losses.last() if self.guard.needs_loss else None
        norm, applied = self.engine.step(lr, self.guard.norm_limit(loss))
        try:
            if sentence := self.guard.judge(step, loss, norm, applied, lr):
                self.note(sentence)
        except Rollback as error:
            rollback = error
            self.mesh.world.on_main(lambda: leave_out(self.config.run_dir, rollback))
            raise
        return norm, lr

    # --- between steps ---

    def _after(self) -> None:
        """Evaluate and save where it is due."""
        step = self.step
        settings = self.config.train
        best = False
        if step < self.point.last_step and _due(step, settings.eval_interval):
            found = self._evaluate(final=False)
            best = found is not None and found.best
            if found is not None and found.ends:
                self.state = replace(self.state, ended=True)
        if self._is_over:
            self._evaluate(final=True)
        last = self._is_over or step == self.point.end_step
        if last or best or _due(step, settings.save_interval):
            self._save(wait=last)

    def _evaluate(self, final: bool) -> Evaluation | None:
        def alive() -> None:
            self.phases.enter("evaluation", self.step)

        alive()
        if final:
            self.checkpoints.finish()  # an objective may look at its best checkpoint
        found = self.objective.evaluate(self.model, self.mesh, self.point, step=self.step, final=final, alive=alive)
        if found is not None:
            self.reporter.evaluated(self.step, found)
            if found.best:
                self.state = replace(self.state, best_step=self.step)
        if final:
            record = found.record if found is not None else {}
            self.state = replace(self.state, evaluation=record, scored=self.objective.scored)
        return found

    def _save(self, wait: bool) -> None:
        self.phases.enter("checkpoint", self.step)
        self.state = replace(
            self.state,
            step=self.step,
            tokens=self.point.tokens_at(self.step),
            stage=self._stages_done,
            stages=len(self.point.stages),
            world_size=self.mesh.world.size,
            mlflow_run_id=self.reporter.run_id,
            data=self.objective.fingerprint,
            anomaly=self.guard.memory,
            unreported=self.losses.steps(),
            choices=tuning.chosen(),
            memory=self.objective.memory,
        )
        self.checkpoints.save(self.state, wait=wait)
        self.guard.saved(self.step)

    def _report(self) -> None:
        if self.mesh.world.is_main:
            reporter = self.reporter
            self.objective.report(RunRecord(self.config, self.state, reporter.trackers, reporter.ui_command, print))
        self.mesh.world.barrier()


def _due(step: int, interval: int) -> bool:
    return interval > 0 and step % interval == 0
