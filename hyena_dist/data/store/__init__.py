"""Random access to the tokens of a genome, from a packed Zarr store or from WebDataset tars, local or remote."""

from hyena_dist.data.store.store import GenomeStore

__all__ = ["GenomeStore"]
