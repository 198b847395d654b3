"""Fine-tuning as an Objective: labels of sequences, by a pretrained backbone with a head."""

from hyena_dist.config.run import RunConfig
from hyena_dist.tasks.labelled_batches import LabelledBatch
from hyena_dist.train.objective import Objective


class Finetuning(Objective[LabelledBatch]):
    """Learns the labels of sequences.

    Args:
        config: a complete run with a task.

    Raises:
        UserError: data or a model that cannot be read.
    """

    def __init__(self, config: RunConfig) -> None:
        self.config = config
