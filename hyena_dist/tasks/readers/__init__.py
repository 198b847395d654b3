"""Readers of what people have: tables, FASTA, folders of classes, and intervals of a genome."""

from hyena_dist.config.task_data import TaskData
from hyena_dist.tasks.labelled import LabelledData


def read_labelled(settings: TaskData) -> LabelledData:
    """Return the labelled sequences that settings name, with the splits train, valid and test.

    Raises:
        UserError: The files cannot be read, or a set that is no task: see `checks`.
    """
    raise NotImplementedError
