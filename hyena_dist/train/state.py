"""The progress of a run after an optimizer step: a frozen record that every checkpoint keeps as its state.json."""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any


@dataclass(frozen=True)
class AnomalyMemory:
    """The past that decisions about abnormal steps depend on; see train/anomaly.py."""

    losses: tuple[float, ...] = ()
    """Losses of the accepted steps that a spike is told from, oldest first."""
    norms: tuple[float, ...] = ()
    """Gradient norms of these accepted steps, oldest first."""
    skipped: tuple[int, ...] = ()
    """Steps, counted from 1, that updated nothing; AdamW has made one update less for each."""


@dataclass(frozen=True)
class TrainState:
    """The progress of a run. A step makes a new one by `dataclasses.replace`; none changes in place."""

    step: int = 0
    """Optimizer steps done, those that were skipped included."""
    tokens: int = 0
    """Tokens (targets, padding included) seen over all ranks."""
    stage: int = 0
    """Stages of the curriculum that are done."""
    stages: int = 0
    """Stages of the whole curriculum."""
    world_size: int = 0
    """Ranks that made the last step."""
    mlflow_run_id: str | None = None
    """The MLflow run that the next processes continue."""
    data: Any = None
    """The fingerprint of the data that the run trains on, as its objective gives it."""
    anomaly: AnomalyMemory = field(default_factory=AnomalyMemory)
    updates_before: int = 0
    """Updates that a kept optimizer had made before the run began."""
    unreported: tuple[tuple[float, float], ...] = ()
    """Summed loss and weight of each step that the next row of metrics will hold the mean of."""
    choices: Mapping[str, str] = field(default_factory=dict)
    """The kernels that were chosen by timing, as in ops/tuning.py, so that the next processes take the same."""
    memory: Mapping[str, Any] = field(default_factory=dict)
    """What the objective remembers of its evaluations, as JSON."""
    best_step: int | None = None
    """The step of the best evaluation, whose checkpoint stays; None where the objective names none."""
    ended: bool = False
    """Whether the objective ended the run at this step, before the last one of its curriculum."""
    evaluation: Mapping[str, Any] | None = None
    """What the evaluation of the finished run gave, as JSON; None before."""
    scored: Mapping[str, Any] | None = None
    """What that evaluation was measured on, as JSON; a finished run is evaluated again if its settings change this."""

    @property
    def updates(self) -> int:
        """The number of updates that AdamW has made."""
        return self.updates_before + self.step - len(self.anomaly.skipped)

    def to_json(self) -> str:
        """Return the text of state.json."""
        fields: dict[str, Any] = {
            "step": self.step,
            "tokens": self.tokens,
            "stage": self.stage,
            "stages": self.stages,
            "updates": self.updates,
            "world_size": self.world_size,
            "mlflow_run_id": self.mlflow_run_id,
            "data": self.data,
            "guard": {"losses": self.anomaly.losses, "norms": self.anomaly.norms},
            "skipped": self.anomaly.skipped,
        }
        if self.updates_before:
            fields["updates_before"] = self.updates_before
        if self.unreported:
            fields["unreported"] = self.unreported
        if self.choices:
            fields["choices"] = self.choices
        if self.memory:
            fields["memory"] = self.memory
        if self.best_step is not None:
            fields["best_step"] = self.best_step
        if self.ended:
            fields["ended"] = True
        if self.evaluation is not None:
            fields |= {"evaluation": self.evaluation, "scored": self.scored}
        return json.dumps(fields, indent=2) + "\n"

    @classmethod
    def from_json(cls, text: str) -> "TrainState":
        """Read what `to_json` gave, or the state.json of a checkpoint from before steps were skipped or guarded."""
        fields: dict[str, Any] = json.loads(text)
        fields.pop("updates", None)  # follows from the steps that were skipped
        guard = fields.pop("guard", {})
        memory = AnomalyMemory(
            losses=tuple(guard.get("losses", ())),
            norms=tuple(guard.get("norms", ())),
            skipped=tuple(fields.pop("skipped", ())),
        )
        unreported = tuple((loss_sum, weight) for loss_sum, weight in fields.pop("unreported", ()))
        return cls(anomaly=memory, unreported=unreported, **fields)


def read_state(checkpoint: Path) -> TrainState:
    """Read the state.json of a checkpoint."""
    return TrainState.from_json((checkpoint / "state.json").read_text())
