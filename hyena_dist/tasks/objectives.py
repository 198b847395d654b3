"""The objective that a run's configuration asks for."""

from collections.abc import Callable
from typing import Any

from hyena_dist.config.run import RunConfig
from hyena_dist.train.objective import Objective


def objective_of(config: RunConfig) -> Callable[[RunConfig], Objective[Any]]:
    """Return what makes the objective of a run: pretraining, or the task that it has."""
    if config.task is None:
        from hyena_dist.train.pretraining import Pretraining

        return Pretraining
    if config.task.in_context is not None:
        from hyena_dist.tasks.in_context.objective import InContext

        return InContext
    if config.task.data.format == "species":
        from hyena_dist.tasks.species.objective import SpeciesClassification

        return SpeciesClassification
    from hyena_dist.tasks.finetuning import Finetuning

    return Finetuning
