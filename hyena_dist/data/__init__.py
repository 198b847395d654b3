"""Genomes on disk and in memory: the vocabulary and the reading side of the store that data_prep builds."""

from hyena_dist.data.store.manifest import Interval
from hyena_dist.data.store.store import GenomeStore

__all__ = ["GenomeStore", "Interval"]
