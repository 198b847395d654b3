"""Tokens per second of the loader into batches, beside the published way from FASTA."""

import statistics
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from pathlib import Path

import numpy as np

from data_prep import demo_corpus
from data_prep.build import BuildOptions, build_store
from data_prep.export_fasta import export_fasta
from hyena_dist.bench.record import record
from hyena_dist.bench.reference_data import PublishedDataset
from hyena_dist.config.data import DataConfig
from hyena_dist.config.parallel import ParallelConfig
from hyena_dist.config.schedule import CurriculumStage, TrainConfig
from hyena_dist.data.batches import StepReader, inputs_and_targets
from hyena_dist.data.loader import Loader
from hyena_dist.data.store import GenomeStore
from hyena_dist.parallel.compat.cpu import keep_freed_memory

COLUMNS = ("what", "length", "batch", "tokens_per_s", "us_per_window", "ratio")
BATCH_TOKENS = 2**18
"""Tokens of a batch, which is one window if that is longer."""
SECONDS = 0.5
"""How long one repeat of a measurement goes on, at least."""


def bench_data(
    store: str | None, fasta: Path | None, lengths: Sequence[int], workers: int, repeats: int, out: Path | None
) -> None:
    """Print medians of tokens/s at every length, and write the table and the environment to `out`.

    Both ways are measured in turn in this process, on random training intervals: ours, by the loader, into uint8
    batches as they travel to a device; ours with the inputs and targets that are made of them there, here on the CPU;
    and the published way, which ends in inputs and targets.

    Args:
        store: folder or URL of a store or shards; the embedded corpus if None.
        fasta: the store's sequences as plain FASTA, beside which pyfaidx keeps an index; written from the
            store to a temporary file if None.
        lengths: bases of a window.
        workers: processes of our loader; 0 for its thread.
        repeats: measurements of each, of which the median is taken.
        out: folder for data.csv and data.json.
    """
    keep_freed_memory(8 * max(BATCH_TOKENS, *lengths))  # as training does
    rows: list[tuple[str, int, int, float, float, float]] = []
    with tempfile.TemporaryDirectory() as scratch:
        if store is None:
            store = str(Path(scratch, "store"))
            build_store([demo_corpus()], Path(store), BuildOptions(), say=lambda _: None)
        if fasta is None:
            fasta = Path(scratch, "genome.fa")
            export_fasta(store, fasta)
        opened = GenomeStore.open(store)
        print(f"{sum(opened.contigs.values()):,} bases, {workers or 'no'} workers; medians of {repeats}")
        print(f"{'what':<12} {'length':>9} {'batch':>6} {'M tokens/s':>11} {'us per window':>14}   to published")
        for length in sorted(lengths):
            batch = max(1, BATCH_TOKENS // length)
            rates = _rates(opened, fasta, length, batch, workers, repeats)
            for what, rate in rates.items():
                rows.append((what, length, batch, rate, length / rate * 1e6, rate / rates["published"]))
                figures = f"{rate / 1e6:>11,.1f} {length / rate * 1e6:>14,.1f} {rate / rates['published']:>8.1f} x"
                print(f"{what:<12} {length:>9,} {batch:>6} {figures}", flush=True)
    if out is not None:
        record(out, "data", COLUMNS, rows, {"store": opened.fingerprint, "workers": workers, "repeats": repeats})


def _rates(store: GenomeStore, fasta: Path, length: int, batch: int, workers: int, repeats: int) -> dict[str, float]:
    """Return the median of tokens per second, for each way."""
    found: dict[str, list[float]] = {}
    with ExitStack() as loaders:
        ours, ours_int64 = (loaders.enter_context(_loader(store, length, batch, workers)) for _ in range(2))
        ways: dict[str, Iterator[object]] = {
            "ours": iter(ours),
            "ours, int64": (inputs_and_targets(b.tokens) for b in ours_int64),
            "published": _published(store, fasta, length, batch),
        }
        for repeat in range(repeats + 1):
            for what, batches in ways.items():
                rate = _rate(batches, length * batch)
                if repeat:  # the first warms up
                    found.setdefault(what, []).append(rate)
    return {what: statistics.median(rates) for what, rates in found.items()}


def _loader(store: GenomeStore, length: int, batch: int, workers: int) -> Loader:
    stage = CurriculumStage(seq_length=length, train_iters=2**31)
    train = TrainConfig(curriculum=(stage,), global_batch_size=batch, micro_batch_size=batch)
    data = DataConfig(path=store.location)
    read = StepReader(store, train.stages([(ParallelConfig(), 1)]), data, seed=0, rank=0)
    return Loader(read, range(2**31), workers=workers, prefetch=data.prefetch)


def _published(store: GenomeStore, fasta: Path, length: int, batch: int) -> Iterator[object]:
    intervals = store.intervals["train"]
    dataset = PublishedDataset(fasta, intervals, length)
    draw = np.random.default_rng(0)
    while True:
        yield dataset.batch(draw.integers(len(intervals), size=batch).tolist())


def _rate(batches: Iterator[object], tokens: int) -> float:
    """Return the tokens per second of these batches, over SECONDS at least."""
    begin = time.perf_counter()
    done = 0
    while (seconds := time.perf_counter() - begin) < SECONDS or not done:
        next(batches)
        done += tokens
    return done / seconds
