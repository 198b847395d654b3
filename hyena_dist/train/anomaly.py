"""The answer to a loss or a gradient that is not finite, or spikes: `train.on_nan` and `train.spike_sigma`.

Decisions depend on losses and norms alone, which are the same on every rank and in every attempt, and on what the
checkpoint remembers: a run that was killed decides as one that was not.
"""

import json
import math
import statistics
from collections import deque
from pathlib import Path

from hyena_dist.config.schedule import TrainConfig
from hyena_dist.errors import TemporaryError, UserError
from hyena_dist.system.files import write_atomically
from hyena_dist.train.state import AnomalyMemory, TrainState

WINDOW = 128
"""The number of last accepted steps that a spike is told from."""

FEWEST = 32
"""The number of accepted steps that it takes before anything counts as a spike."""

MOST_IN_A_ROW = 10
"""The number of steps that may be skipped one after the other: more are no accident."""

MOST_ROLLBACKS = 20
"""The number of rollbacks that a run may have, so that it does not diverge for ever."""


class Rollback(TemporaryError):
    """Training goes back to the last checkpoint and leaves out the steps from `first` to `last`."""

    def __init__(self, message: str, first: int, last: int) -> None:
        super().__init__(message)
        self.first = first
        self.last = last


class AnomalyGuard:
    """Watches the numbers of one run.

    Args:
        train: the run's on_nan and spike_sigma.
        state: where the run stands when these processes begin.
    """

    def __init__(self, train: TrainConfig, state: TrainState) -> None:
        self.policy = train.on_nan
        self.sigma = train.spike_sigma
        self.restart = state.step
        self.losses: deque[float] = deque(state.anomaly.losses, maxlen=WINDOW)
        self.norms: deque[float] = deque(state.anomaly.norms, maxlen=WINDOW)
        self.skipped: list[int] = list(state.anomaly.skipped)
        self._left_out: list[tuple[int, int]] = []

    @property
    def needs_loss(self) -> bool:
        """Whether the mean loss has to be known before the update."""
        return self.sigma is not None

    @property
    def memory(self) -> AnomalyMemory:
        """What a checkpoint keeps of the guard."""
        if not self.needs_loss:
            return AnomalyMemory(skipped=tuple(self.skipped))
        return AnomalyMemory(tuple(self.losses), tuple(self.norms), tuple(self.skipped))

    def read_left_out(self, run_dir: Path) -> None:
        """Learn which steps earlier attempts of the run have sorted out."""
        self._left_out = _read(run_dir)

    def leaves_out(self, step: int) -> bool:
        """Return whether a step is passed over, its samples unseen; it counts as skipped if so."""
        out = any(first <= step <= last for first, last in self._left_out)
        if out:
            self.skipped.append(step)
        return out

    def norm_limit(self, loss: float | None) -> float:
        """Return the largest gradient norm with which the update may happen: 0 if the loss alone forbids it.

        A step without a loss, because nothing in it is scored or the loss is not needed, is judged by its norm.
        """
        if loss is not None and not loss <= self._limit(self.losses):  # NaN is never below
            return 0.0
        return self._limit(self.norms)

    def judge(self, step: int, loss: float | None, norm: float, applied: bool, lr: float) -> str | None:
        """Judge a step after its update: return None if all is well, a sentence if the step was skipped.

        Raises:
            UserError: on_nan is "stop", or too many steps were skipped in a row.
            Rollback: on_nan is "rollback".
        """
        if applied:
            if loss is not None:  # with nothing scored, 0 would make the next real loss a spike
                self.losses.append(loss)
                self.norms.append(norm)
            return None
        what = self._what(loss, norm)
        if self.policy == "stop":
            raise UserError(
                f"{what} at step {step} (learning rate {lr:.2e}); lower optimizer.lr or lengthen "
                f"optimizer.lr_warmup_tokens, or set train.on_nan to skip or rollback, and resume: checkpoints before "
                f"this step are untouched"
            )
        if self.policy == "rollback" and len(self._left_out) >= MOST_ROLLBACKS:
            raise UserError(
                f"{what} at step {step}, after {len(self._left_out)} rollbacks; lower optimizer.lr and start anew with "
                f"name=...: the checkpoints stay"
            )
        if self.policy == "rollback":
            first = self.restart + 1
            raise Rollback(
                f"{what} at step {step}: back to step {self.restart}, without steps {first} to {step}", first, step
            )
        self.skipped.append(step)
        if self.skipped[-MOST_IN_A_ROW - 1 :] == list(range(step - MOST_IN_A_ROW, step + 1)):
            raise UserError(
                f"{what} at step {step}, the {MOST_IN_A_ROW + 1}th in a row; lower optimizer.lr and start again "
                f"from an earlier checkpoint: those before these steps are untouched"
            )
        return f"WARNING: {what} at step {step}: it updates nothing ({len(self.skipped)} steps skipped so far)"

    def saved(self, step: int) -> None:
        """Note that the checkpoint of a step is in place, to which a rollback would go."""
        self.restart = step

    def _limit(self, accepted: deque[float]) -> float:
        if self.sigma is None or len(accepted) < FEWEST:
            return math.inf
        return statistics.fmean(accepted) + self.sigma * statistics.pstdev(accepted)

    def _what(self, loss: float | None, norm: float) -> str:
        for name, value, accepted in (("loss", loss, self.losses), ("gradient norm", norm, self.norms)):
            if value is None:
                continue
            if not math.isfinite(value):
                return f"the {name} is {value}"
            if value > self._limit(accepted):
                mean = statistics.fmean(accepted)
                return f"the {name} spikes to {value:.4g} (mean {mean:.4g}, limit {self._limit(accepted):.4g})"
        return f"the gradient norm is {norm}"


def leave_out(run_dir: Path, rollback: Rollback) -> None:
    """Let every later attempt at the run pass over the steps of a rollback.

    Raises:
        UserError: the file cannot be written.
    """
    left_out = [*_read(run_dir), (rollback.first, rollback.last)]
    try:
        write_atomically(run_dir / "skip.json", json.dumps(left_out) + "\n")
    except OSError as error:
        raise UserError(f"cannot write to {run_dir}: {error.strerror}; free some space and start again") from error


def _read(run_dir: Path) -> list[tuple[int, int]]:
    try:
        return [(int(first), int(last)) for first, last in json.loads((run_dir / "skip.json").read_text())]
    except FileNotFoundError:
        return []
