"""Species classification as an Objective: fine-tuning on random windows, scored on held-out ones by context length."""

import math
from collections.abc import Callable, Iterable, Mapping
from contextlib import AbstractContextManager
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import nn

from hyena_dist.config.run import RunConfig
from hyena_dist.data.sampling.train_windows import INTERVALS_VERSION
from hyena_dist.data.store import GenomeStore
from hyena_dist.errors import UserError
from hyena_dist.parallel.mesh import Mesh
from hyena_dist.tasks.best import choose_goal
from hyena_dist.tasks.finetuning import Finetuning
from hyena_dist.tasks.finished import predictions_file
from hyena_dist.tasks.labelled import Examples, LabelledData
from hyena_dist.tasks.labelled_batches import LabelledBatch
from hyena_dist.tasks.labelling import Labelling
from hyena_dist.tasks.learning import HELD_OUT
from hyena_dist.tasks.losses import Criterion
from hyena_dist.tasks.model import SequenceModel
from hyena_dist.tasks.predictions import Predictions
from hyena_dist.tasks.species.batches import SpeciesReader
from hyena_dist.tasks.species.report import summarize, write_species_report
from hyena_dist.tasks.species.windows import held_out_windows
from hyena_dist.train.objective import Batch, Evaluation, RunRecord
from hyena_dist.train.pretraining import interim_lengths
from hyena_dist.train.resume import ResumePoint


class SpeciesClassification(Finetuning):
    """Learns whose genome a window is of; `task.data.path` is a store of labelled species.

    Args:
        config: a complete run with a task of format species.

    Raises:
        UserError: no store, fewer than two species, or a species without held-out windows of a length that is scored:
            what the last evaluation needs is looked for now.
    """

    def __init__(self, config: RunConfig) -> None:
        assert config.task is not None
        self.config = config
        self.task = config.task
        layouts = [config.parallel_of(stage) for stage in config.train.curriculum]
        self.unit = math.lcm(*(config.layout_with(layout).length_unit for layout in layouts))
        self.store = open_species(Path(config.data.path))
        self.species = tuple(sorted(config.data.species_weights or self.store.species))
        if unknown := set(self.species) - set(self.store.species):
            raise UserError(f"data.species_weights names {min(unknown)!r}, which {config.data.path} does not have")
        if len(self.species) < 2:
            raise UserError(f"{config.data.path} has one species alone, and nothing to tell apart; build it with more")
        self.lengths = config.evaluation_lengths
        settings = config.evaluation
        self.windows = {length: self._windows(length, settings.max_tokens) for length in self.lengths}
        self.interim = {length: self._windows(length, settings.interval_max_tokens) for length in self.lengths}
        self.data = self._data(self.windows[self.lengths[-1]])
        self.labelling = Labelling(self.species, Criterion("single_label"), self.task)
        valid = self.data.splits["valid"]
        anything = self.labelling.predictions(valid, torch.zeros(len(valid), len(self.species)))
        self.goal = choose_goal(self.task.best_by or "accuracy", anything)

    @property
    def fingerprint(self) -> Any:
        """The hash of the store, and the way in which windows are sampled."""
        return {"store": self.store.fingerprint, "sampling": INTERVALS_VERSION}

    @property
    def scored(self) -> Mapping[str, Any]:
        """The number of windows that are scored of each held-out split, by context length."""
        return {
            str(length): {split: len(examples) for split, examples in splits.items()}
            for length, splits in self.windows.items()
        }

    def batches(
        self, point: ResumePoint, steps: range, mesh: Mesh
    ) -> AbstractContextManager[Iterable[Batch[LabelledBatch]]]:
        """Return this rank's labelled windows of some steps, read ahead by a thread or by processes."""
        data = self.config.data
        weights = data.species_weights or dict.fromkeys(self.species, 1.0)
        data = data.model_copy(update={"species_weights": weights, "reverse_complement": self._both_strands})
        read = SpeciesReader(self.store, self.species, point.stages, data, seed=self.config.seed, mesh=mesh)
        return self.read_ahead(read, steps)

    def evaluate(
        self, model: nn.Module, mesh: Mesh, point: ResumePoint, *, step: int, final: bool, alive: Callable[[], None]
    ) -> Evaluation | None:
        """Measure on valid at the longest context that suits; at the end, on each held-out split at every context."""
        lengths = self.lengths if final else interim_lengths(self.lengths, mesh, point)
        if not lengths:
            return None
        self.data = self._data((self.windows if final else self.interim)[lengths[-1]])
        found = super().evaluate(model, mesh, point, step=step, final=final, alive=alive)
        if not final or found is None:
            return found
        assert isinstance(model, SequenceModel)
        best: int = found.record["best"]["step"]
        chosen = model if best == step else self.model_at(best, mesh)
        contexts: dict[str, dict[str, dict[str, float]]] = {}
        lines = []
        for length in lengths:
            self.data = self._data(self.windows[length])
            contexts[str(length)] = {
                split: summarize(
                    Predictions.load(predictions_file(self.config.run_dir, split))
                    if length == lengths[-1]
                    else self.measured_on(split, chosen, alive)[1]
                )
                for split in self.windows[length]
            }
            accuracies = (f"{split} {metrics['accuracy']:.4f}" for split, metrics in contexts[str(length)].items())
            lines.append(f"accuracy at context {length:,}: {', '.join(accuracies)}")
        return replace(found, lines=[*found.lines, *lines], record={**found.record, "contexts": contexts})

    def report(self, run: RunRecord) -> None:
        """Write summary.json and accuracy by context, and tell people."""
        write_species_report(run, self.goal.metric)

    def describe_data(self) -> list[str]:
        """Return lines for people: the species, and how much of them is scored."""
        return [
            f"{len(self.species)} species of {self.config.data.path}: {', '.join(self.species)}",
            *(
                f"scored at context {n:,}: {', '.join(f'{len(of):,} {split} windows' for split, of in splits.items())}"
                for n, splits in self.windows.items()
            ),
        ]

    @property
    def _both_strands(self) -> bool:
        return self.config.data.reverse_complement or self.task.reverse_complement

    def _windows(self, length: int, tokens: int) -> dict[str, Examples]:
        found = {split: held_out_windows(self.store, self.species, split, length, tokens) for split in HELD_OUT}
        if found["valid"] is None:
            raise UserError(f"{self.config.data.path} has no split valid; build it with --split-fractions 0.8,0.1,0.1")
        return {split: examples for split, examples in found.items() if examples is not None}

    def _data(self, splits: Mapping[str, Examples]) -> LabelledData:
        return LabelledData("single_label", self.species, splits, self.store.fingerprint)


def open_species(path: Path) -> GenomeStore:
    """Open a store of labelled species.

    Raises:
        UserError: there is none, or it has no labels; for a folder of FASTA files, with the command that makes one.
    """
    if path.is_dir() and not (path / "manifest.json").exists():
        files = sorted(file for file in path.iterdir() if {".fa", ".fasta", ".fna", ".2bit"} & set(file.suffixes))
        if files:
            named = " ".join(f"{file.name.split('.')[0]}={file}" for file in files)
            raise UserError(
                f"{path} is a folder of genomes; make a store of labelled species first: hyena-dist data build {named} "
                f"--out {path}-store --split-fractions 0.8,0.1,0.1"
            )
    store = GenomeStore.open(str(path))
    if not store.species:
        raise UserError(f"{path} has no species; build it with labels: hyena-dist data build human=... mouse=...")
    return store
