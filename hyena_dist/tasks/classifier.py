"""A fine-tuned model in use: predictions for new sequences."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from hyena_dist.data.batches import IGNORE_INDEX
from hyena_dist.errors import UserError
from hyena_dist.inference.load import find_device
from hyena_dist.inference.sequences import Source, as_sequences
from hyena_dist.models.published_config import model_config, read_config
from hyena_dist.parallel.mesh import Mesh
from hyena_dist.tasks.build import take_weights, untrained
from hyena_dist.tasks.labelled import Examples
from hyena_dist.tasks.labelled_batches import cropped
from hyena_dist.tasks.labelling import Labelling
from hyena_dist.tasks.model import SequenceModel
from hyena_dist.tasks.predict import outputs_of
from hyena_dist.tasks.predictions import Predictions
from hyena_dist.tracking.work_progress import WorkProgress
from hyena_dist.train.checkpoint.format import model_folder
from hyena_dist.train.checkpoint.keep import intact_of_step
from hyena_dist.train.state import read_state


@dataclass(frozen=True)
class Classifier:
    """A fine-tuned model, and what its outputs mean."""

    model: SequenceModel
    labelling: Labelling

    def predict(
        self, sequences: Source, genome: str | Path | None = None, *, max_tokens_per_batch: int = 2**16
    ) -> Predictions:
        """Return the scores of new sequences, whose labels are not known; longer ones are cut as in training.

        Args:
            sequences: a FASTA, BED, CSV or TSV file, texts by their names, or texts alone.
            genome: the FASTA file that the intervals of a BED file are of.
            max_tokens_per_batch: bound for positions of a batch.

        Raises:
            UserError: what `as_sequences` refuses, or a sequence that is longer than the model's l_max.
        """
        found = as_sequences(sequences, genome)
        task, kind, l_max = self.labelling.task, self.labelling.kind, self.model.config.l_max
        count = len(found.names)
        if kind == "per_base":
            labels = np.empty(count, dtype=object)
            labels[:] = [np.full(length, IGNORE_INDEX) for length in found.lengths]
        elif kind == "single_label":
            labels = np.full(count, IGNORE_INDEX)
        else:
            labels = np.full((count, len(self.labelling.classes)), np.nan, dtype=np.float32)
        examples = Examples(found.names, found.lengths, labels, found.tokens)
        if task.max_length is not None:
            examples = cropped(examples, kind, task.max_length)
        longest = int(examples.lengths.argmax())
        if examples.lengths[longest] > l_max:
            raise UserError(
                f"sequence {examples.names[longest]} has {examples.lengths[longest]:,} bases where the model has "
                f"{l_max:,} positions; cut it"
            )
        with WorkProgress("predict", int(examples.lengths.sum())) as progress:
            outputs = outputs_of(
                self.model,
                examples,
                kind,
                most=l_max,
                batch_tokens=max_tokens_per_batch,
                both_strands=task.average_strands,
                report=progress.advance,
            )
        return self.labelling.predictions(examples, outputs)


def load_classifier(model: str | Path, *, device: str | torch.device = "cpu") -> Classifier:
    """Load a fine-tuned model, on one device.

    Args:
        model: the folder of a run, of which the checkpoint that was best on valid is taken, or a checkpoint.
        device: where it computes.

    Raises:
        UserError: no fine-tuned model or no such device is there, or files are damaged.
    """
    place = find_device(device)
    path = Path(model)
    if not path.exists():
        raise UserError(f"there is no {path}; name a run of finetune, or one of its checkpoints")
    folder = model_folder(path)
    labelling = Labelling.read(folder)
    if folder != path:
        best = read_state(folder).best_step
        folder = folder if best is None else intact_of_step(folder.parent, best)
    architecture = model_config(read_config(folder), None)
    sequence_model = untrained(architecture, labelling, Mesh(), torch.get_default_dtype())
    take_weights(sequence_model, folder)
    return Classifier(sequence_model.eval().to(place), labelling)
