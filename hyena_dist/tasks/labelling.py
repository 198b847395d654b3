"""Labelling: what the outputs of a SequenceModel mean, which its checkpoints keep beside the weights."""

import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from pydantic import ValidationError
from torch import Tensor

from hyena_dist.config.task import TaskConfig
from hyena_dist.errors import UserError
from hyena_dist.tasks.labelled import Examples, Kind
from hyena_dist.tasks.losses import Criterion
from hyena_dist.tasks.predictions import Predictions

FILE = "labels.json"
"""The name of the file in a checkpoint."""


@dataclass(frozen=True)
class Labelling:
    """The labels of a task, and the settings that make predictions from what a model gives."""

    classes: tuple[str, ...]
    criterion: Criterion
    task: TaskConfig

    @property
    def kind(self) -> Kind:
        """What the labels say."""
        return self.criterion.kind

    def predictions(self, examples: Examples, outputs: Tensor) -> Predictions:
        """Return the outputs of a model for a split as predictions.

        Args:
            examples: the split.
            outputs: fp32 [N, C], of bases [bases, C].
        """
        per_base = self.kind == "per_base"
        labels = np.concatenate(examples.labels) if per_base else examples.labels
        scores = self.criterion.scores(outputs).numpy()
        lengths = examples.lengths if per_base else None
        return Predictions(self.kind, self.classes, examples.names, labels, scores, lengths)

    def to_json(self) -> str:
        """Return what `read` reads."""
        fields = {
            "classes": self.classes,
            "criterion": asdict(self.criterion),
            "task": self.task.model_dump(mode="json"),
        }
        return json.dumps(fields, indent=2) + "\n"

    @classmethod
    def read(cls, folder: Path) -> "Labelling":
        """Read the labels of a checkpoint.

        Raises:
            UserError: the folder is no fine-tuned model, or its file is damaged.
        """
        path = folder / FILE
        try:
            fields = json.loads(path.read_text())
            criterion: dict[str, Any] = {
                key: tuple(v) if isinstance(v, list) else v for key, v in fields["criterion"].items()
            }
            return cls(tuple(fields["classes"]), Criterion(**criterion), TaskConfig.model_validate(fields["task"]))
        except OSError as error:
            raise UserError(
                f"{folder} is no fine-tuned model, since it has no {FILE}; name a run of finetune"
            ) from error
        except (ValueError, KeyError, TypeError, ValidationError) as error:
            raise UserError(f"{path} is damaged ({error}); name another checkpoint") from error
