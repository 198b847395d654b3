"""The batches of species classification: random windows of each species, sampled as pretraining samples them."""

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray

from hyena_dist.config.data import DataConfig
from hyena_dist.config.schedule import StagePlan
from hyena_dist.data.batches import StepReader
from hyena_dist.data.store import GenomeStore
from hyena_dist.parallel.mesh import Mesh
from hyena_dist.tasks.labelled_batches import LabelledBatch
from hyena_dist.train.objective import Batch
from hyena_dist.train.pretraining import dropout_seed


class SpeciesReader:
    """Reads one rank's labelled windows of any step, in any order; the label of a window is its species.

    Args:
        store: a store of labelled species.
        species: the classes; of each, the windows are as often as `data.species_weights` says.
        stages: the whole curriculum.
        data: how windows are chosen.
        seed: seed of the run.
        mesh: this rank's groups, of which the context ranks share the positions.

    Raises:
        UserError: a stage has no windows of a species.
    """

    def __init__(
        self,
        store: GenomeStore,
        species: Sequence[str],
        stages: Sequence[StagePlan],
        data: DataConfig,
        *,
        seed: int,
        mesh: Mesh,
    ) -> None:
        self._seed = seed
        self._context = mesh.context.size()
        self._label_of_contig: NDArray[np.int64] = labels_of_contigs(store, species)
        place = mesh.context.rank(), mesh.context.size()
        self._read = StepReader(store, stages, data, seed=seed, rank=mesh.data.rank(), context=place)

    def __call__(self, step: int) -> Batch[LabelledBatch]:
        """Read this rank's batch of a step."""
        read = self._read(step)
        count, size, chunk = read.tokens.shape
        labels = torch.from_numpy(self._label_of_contig[list(read.contigs)]).view(count, size)
        lengths = torch.full((size,), (chunk - 1) * self._context)
        micro_batches = [
            LabelledBatch(
                tokens=read.tokens[a, :, :-1],  # windows of pretraining have one base more, the last target
                lengths=lengths,
                labels=labels[a],
                share=1 / self._context,
                dropout_seeds=[dropout_seed(self._seed, step, read.first_samples[a] + i) for i in range(size)],
            )
            for a in range(count)
        ]
        return Batch(read.stage, step, micro_batches, count * size / self._context)


def labels_of_contigs(store: GenomeStore, species: Sequence[str]) -> NDArray[np.int64]:
    """Return the index of each contig's species among the classes, -1 where it is none of them; int64 [contigs]."""
    index = {name: number for number, name in enumerate(species)}
    return np.array([index.get(store.species_of(contig) or "", -1) for contig in store.contigs], dtype=np.int64)
