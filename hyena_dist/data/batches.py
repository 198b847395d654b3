"""From windows to the arrays of a step, read ahead in the background.

Shapes: A gradient accumulation steps, B micro batch size, L sequence length, S = L / P positions of one of P context
ranks.
"""

import time
from collections import deque
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from hyena_dist.config import StagePlan
from hyena_dist.data.store import GenomeStore
from hyena_dist.data.tokenizer import BASES, reverse_complement
from hyena_dist.data.windows import Window, WindowSampler

IGNORE_INDEX = -100
"""Targets with this value (torch's ignore_index) count neither in the loss nor in what it is divided by."""


class StepBatch(NamedTuple):
    """What one rank trains on in one step."""

    stage: StagePlan
    step: int
    input_ids: NDArray[np.int64]
    """[A, B, S]"""
    targets: NDArray[np.int64]
    """[A, B, S], the next token, IGNORE_INDEX where it is not one of A, C, G, T."""
    first_samples: tuple[int, ...]
    """[A], index in the global batch of each micro-batch's first sample."""
    wait_s: float
    """Seconds that the caller waited for this batch."""


def read_windows(store: GenomeStore, windows: Sequence[Window]) -> NDArray[np.uint8]:
    """Tokens of windows of one size: [len(windows), size]."""
    rows = []
    for w in windows:
        tokens = store.read(w.contig, w.start, w.end)
        rows.append(reverse_complement(tokens) if w.reverse else tokens)
    return np.stack(rows)


def inputs_and_targets(tokens: NDArray[np.uint8]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """[..., L + 1] tokens -> inputs [..., L] and targets [..., L].

    Shifted here, before any split over ranks; N, padding and other specials are never predicted.
    """
    targets = tokens[..., 1:].astype(np.int64)
    targets[~np.isin(targets, BASES)] = IGNORE_INDEX
    return tokens[..., :-1].astype(np.int64), targets


class Batches:
    """The batches of a rank from `first_step` on, across curriculum stages.

    Micro-batch a of data-parallel rank r holds samples (a * R + r) * B to (a * R + r + 1) * B of the global batch (R
    ranks), so that the global batch is the same for every R. Of each, a context rank reads its own chunk alone:
    `context` is (rank, size).
    """

    def __init__(
        self,
        store: GenomeStore,
        stages: Sequence[StagePlan],
        *,
        seed: int,
        reverse_complement: bool,
        rank: int,
        context: tuple[int, int] = (0, 1),
        first_step: int,
        prefetch: int,
    ) -> None:
        self._store, self._stages, self._rank, self._context = store, stages, rank, context
        self._samplers = [WindowSampler(store.splits["train"], s.seq_length, seed, reverse_complement) for s in stages]
        self._steps = iter(range(first_step, stages[-1].end_step))
        self._pool = ThreadPoolExecutor(1, thread_name_prefix="data")
        self._pending: deque[Future[StepBatch]] = deque()
        for _ in range(prefetch):
            self._submit()

    def __iter__(self) -> Iterator[StepBatch]:
        while self._pending:
            begin = time.perf_counter()
            batch = self._pending.popleft().result()
            self._submit()
            yield batch._replace(wait_s=time.perf_counter() - begin)

    def close(self) -> None:
        """Stop reading ahead."""
        self._pool.shutdown(cancel_futures=True)

    def _submit(self) -> None:
        step = next(self._steps, None)
        if step is not None:
            self._pending.append(self._pool.submit(self._read, step))

    def _read(self, step: int) -> StepBatch:
        stage = next(s for s in self._stages if step < s.end_step)
        sampler = self._samplers[stage.number]
        size, ranks = stage.micro_batch_size, stage.data_parallel_size
        firsts = tuple((a * ranks + self._rank) * size for a in range(stage.gradient_accumulation_steps))
        windows = [sampler.window(step, first + i).part(*self._context) for first in firsts for i in range(size)]
        tokens = read_windows(self._store, windows).reshape(len(firsts), size, -1)
        return StepBatch(stage, step, *inputs_and_targets(tokens), firsts, 0.0)
