"""Embeddings of sequences in a file, or in memory."""

import tempfile
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray

from hyena_dist.data.batches import is_base
from hyena_dist.errors import UserError
from hyena_dist.inference.batches import batches_by_length
from hyena_dist.inference.embedding_files import (
    STORED,
    SUFFIXES,
    EmbeddingTable,
    read_attributes,
    write_parquet,
    write_zarr,
)
from hyena_dist.inference.embedding_parts import STRANDS, PartLayout
from hyena_dist.inference.hidden import OVER_BASES, Rows, layer_numbers
from hyena_dist.inference.load import Model, evaluating, load_here, model_hash
from hyena_dist.inference.parts import PartFolder, check_output, describe_job
from hyena_dist.inference.sequences import Sequences, Source, as_sequences
from hyena_dist.models.lm import HyenaDNA
from hyena_dist.system.launch import Launch, launch_environment


class Embeddings(NamedTuple):
    """Embeddings in memory, in the order of the input."""

    names: list[str]
    lengths: NDArray[np.int64]
    """Bases of each of N sequences, [N]."""
    offsets: NDArray[np.int64]
    """Rows of sequence i are offsets[i] to offsets[i + 1]; [N + 1]."""
    layers: dict[int, NDArray[np.float32]]
    """Rows of all sequences by layer, [R, W]: W is d_model, twice that of two strands side by side."""


def embed(
    model: Model,
    sequences: Source,
    *,
    out: str | Path | None = None,
    genome: str | Path | None = None,
    layers: Sequence[int] | None = (-1,),
    pool: str = "mean",
    bin_size: int | None = None,
    strands: str = "one",
    store: str = "fp32",
    device: str = "cpu",
    dtype: torch.dtype | None = None,
    max_tokens_per_batch: int = 2**16,
    modulation_shift: float | None = None,
) -> Embeddings | None:
    """Compute hidden states of sequences: a row for each, or for each of its bins.

    >>> import hyena_dist
    >>> found = hyena_dist.embed("tests/golden/tiny", {"a": "ACGTTGCA", "b": "TTG"}, layers=[1, -1])
    >>> found.names, {layer: rows.shape for layer, rows in found.layers.items()}
    (['a', 'b'], {1: (2, 64), 2: (2, 64)})

    Under torchrun or srun, each process does a share and one of them writes the file. A job that was killed goes on
    where it was when it is started again, on any number of processes.

    Args:
        model: a model, or what `load` takes.
        sequences: a FASTA, BED, CSV or TSV file, a dict from names to text, or texts.
        out: x.zarr or x.parquet; if not given, the result is returned.
        genome: FASTA file that the intervals of a BED file are of.
        layers: 0 is the embedding, i follows block i, and the last follows the final norm; negative numbers count from
            the end. None for all.
        pool: `mean`, `std` (standard deviation) or `max` over A, C, G, T, or the `last` or `first` position. The model
            is causal: the first position has seen one base.
        bin_size: a row for each so many bases, their mean, instead; 1 for each base.
        strands: `one`, `both` (averaged) or `concat` (side by side). Bins of the other strand are turned back.
        store: fp32, bf16 or fp16 in the file. Differences of embeddings need fp32.
        device: where a model is loaded to. A model that is given stays where it is.
        dtype: the type a model is cast to when it is loaded.
        max_tokens_per_batch: bound for sequences times positions of a batch of several.
        modulation_shift: shift of the filters' decay, which published files do not store; see `load_published`.

    Returns:
        The embeddings, or None with `out`.

    Raises:
        UserError: a mistake in any of these, before the work begins.
    """
    rows = Rows(pool, bin_size)
    rows.check()
    _check("strands", strands, STRANDS)
    _check("store", store, STORED)
    path = None if out is None else _check_out(Path(out))
    given = as_sequences(sequences, genome)
    model = load_here(model, device, dtype, modulation_shift)
    numbers = layer_numbers(range(model.config.n_layer + 1) if layers is None else layers, model.config.n_layer)
    _check_lengths(given, model.config.l_max)
    if bin_size is None and pool in OVER_BASES:
        _check_bases(given)
    layout = PartLayout(
        batches_by_length(given.lengths, max_tokens_per_batch),
        given.lengths,
        rows,
        numbers,
        strands,
        model.config.d_model,
    )
    options = {
        "layers": list(numbers),
        "pool": pool if bin_size is None else None,
        "bin_size": bin_size,
        "strands": strands,
        "max_tokens_per_batch": max_tokens_per_batch,
    }
    job = describe_job("embed", given.fingerprint, model_hash(model), options)
    if path is None:
        with tempfile.TemporaryDirectory() as scratch:
            folder = PartFolder(Path(scratch, "embeddings"), job)
            _compute(folder, layout, model, given, Launch(0, 0, 1))
            read = layout.reader(folder.path)
            found = {layer: read(layer, 0, int(layout.offsets[-1])) for layer in numbers}
            return Embeddings(given.names, given.lengths, layout.offsets, found)
    attributes = {**job, "store": store}
    _is_done(path, attributes)  # refuses another file before there is a folder
    folder = PartFolder(path, job)
    if _is_done(path, attributes):  # before, or by a process that has just ended the job or was killed at its end
        folder.remove()
        return None
    _compute(folder, layout, model, given, launch_environment())
    write = write_zarr if path.suffix == ".zarr" else write_parquet
    table = EmbeddingTable(
        given.names, given.lengths, rows, numbers, layout.width, layout.reader(folder.path), attributes
    )
    folder.merge(len(layout.batches), lambda merged: write(merged, table, store))
    return None


def _compute(folder: PartFolder, layout: PartLayout, model: HyenaDNA, given: Sequences, launch: Launch) -> None:
    """Do this process's share of the parts."""

    def part(number: int, path: Path) -> None:
        batch = [given.tokens(i) for i in layout.batches[number].tolist()]
        layout.write(path, model, given.names, batch, number)

    sizes = [int(layout.lengths[batch].sum()) for batch in layout.batches]
    with evaluating(model):
        folder.compute("embedding", sizes, part, launch.rank, launch.world_size)


def _check(option: str, value: str, known: Iterable[str]) -> None:
    if value not in known:
        raise UserError(f"{option} {value!r} is not built; choose of {', '.join(known)}")


def _check_out(path: Path) -> Path:
    """Return the path of the output, once it is known that it can be written.

    Raises:
        UserError: another format, or no folder to write to.
    """
    if path.suffix == ".h5ad":
        raise UserError(
            f"{path} cannot be written, since anndata needs older packages than these; write "
            f"{path.with_suffix('.parquet')}, which three lines of `hyena-dist embed --help` turn into AnnData"
        )
    check_output(path, SUFFIXES)
    return path


def _is_done(path: Path, attributes: dict[str, Any]) -> bool:
    """Return whether the output is there already.

    Raises:
        UserError: there is another in its place.
    """
    if path.exists() and read_attributes(path) != attributes:
        raise UserError(f"{path} exists and is not what this would make; remove it, or name another --out")
    return path.exists()


def _check_lengths(given: Sequences, l_max: int) -> None:
    longest = int(np.argmax(given.lengths))
    if given.lengths[longest] > l_max:
        raise UserError(
            f"sequence {given.names[longest]!r} has {given.lengths[longest]:,} bases and the model takes {l_max:,} "
            f"(l_max) at most; cut it into pieces, as intervals of a BED file"
        )


def _check_bases(given: Sequences) -> None:
    for number, name in enumerate(given.names):
        if not is_base(given.tokens(number)).any():
            raise UserError(f"sequence {name!r} has no A, C, G or T to pool over; leave it out, or pool last")
