"""Markov chains over A, C, G, T: the baselines any language model of DNA has to beat.

Shapes: N positions of a stretch of tokens.
"""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from hyena_dist.data.store import GenomeStore
from hyena_dist.data.store.manifest import Interval
from hyena_dist.data.tokenizer import BASES
from hyena_dist.errors import UserError
from hyena_dist.train.evaluation.scores import NOTHING_SCORED

PSEUDOCOUNT = 0.5
PIECE = 1 << 22
"""The number of positions counted at a time, which bounds the memory."""


class MarkovChains:
    """Chains of order 0 to `max_order`, fitted on regions with add-0.5 smoothing."""

    def __init__(self, max_order: int) -> None:
        self.max_order = max_order
        self._counts = [np.zeros(4 ** (order + 1)) for order in range(max_order + 1)]

    def fit(self, store: GenomeStore, regions: Sequence[Interval], max_tokens: int) -> "MarkovChains":
        """Count the (order + 1)-mers of the regions' first `max_tokens` positions."""
        for region in regions:
            if max_tokens <= 0:
                break
            for start in range(region.start, region.end, PIECE):
                end = min(start + PIECE, region.end, start + max_tokens)
                if end > start:
                    # Contexts reach back over the border between pieces, not out of the region.
                    left = min(self.max_order, start - region.start)
                    self._add(store.read(region.contig, start - left, end), left)
                max_tokens -= end - start
        return self

    def _add(self, tokens: NDArray[np.uint8], left: int) -> None:
        for order, (words, valid) in enumerate(_words(tokens, self.max_order)):
            keep = words[left:][valid[left:]]
            self._counts[order] += np.bincount(keep, minlength=4 ** (order + 1))

    def nll(self, store: GenomeStore, windows: Sequence[Interval]) -> list[tuple[float, int]]:
        """Return the sum of negative log-likelihoods in nats and the number of scored positions for each order.

        Scores the targets of language-model windows, every position but the first of each, that are A, C, G or T. A
        chain sees the bases before the window too, as far as its region reaches (tar shards hold no others); where its
        context holds an N, the longest shorter one is used.
        """
        starts = np.sort(np.concatenate([regions.ranges.start for regions in store.splits.values()]))
        offset = store.contigs.offset
        tables = []
        for counts in self._counts:
            smooth = counts.reshape(-1, 4) + PSEUDOCOUNT
            tables.append(-np.log(smooth / smooth.sum(1, keepdims=True)).ravel())
        sums = [0.0] * len(tables)
        numbers = [0] * len(tables)
        for w in windows:
            contig = int(offset[store.contigs.number[w.contig]])
            before = int(np.searchsorted(starts, contig + w.start, side="right"))
            left = min(self.max_order, contig + w.start + 1 - max(contig, int(starts[before - 1]) if before else 0))
            best: NDArray[np.float64] | None = None
            for order, (words, valid) in enumerate(
                _words(store.read(w.contig, w.start + 1 - left, w.end), self.max_order)
            ):
                words = words[left:]
                valid = valid[left:]
                scores = tables[order][words]
                if best is None:
                    counted = valid
                    best = scores
                else:
                    best = np.where(valid, scores, best)
                sums[order] += float(best[counted].sum())
                numbers[order] += int(counted.sum())
        return list(zip(sums, numbers, strict=True))

    def perplexity(self, store: GenomeStore, windows: Sequence[Interval]) -> dict[int, float]:
        """Return the perplexity by order on the windows' targets.

        Raises:
            UserError: no target is A, C, G or T.
        """
        scored = self.nll(store, windows)
        if not scored[0][1]:
            raise UserError(NOTHING_SCORED)
        return {order: float(np.exp(nll / n)) for order, (nll, n) in enumerate(scored)}


def _words(tokens: NDArray[np.uint8], max_order: int) -> list[tuple[NDArray[np.int64], NDArray[np.bool_]]]:
    """Return for each order the index of the (order + 1)-mer ending at each position, and if all of it is ACGT, [N]."""
    codes = tokens.astype(np.int64) - BASES[0]
    known = (codes >= 0) & (codes < 4)
    codes[~known] = 0
    words, valid = codes.copy(), known.copy()
    result = [(words, valid)]
    for order in range(1, max_order + 1):
        words, valid = words.copy(), valid.copy()
        words[order:] += codes[:-order] << (2 * order)
        valid[order:] &= known[:-order]
        valid[:order] = False
        result.append((words, valid))
    return result
