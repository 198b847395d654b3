"""The results of an evaluation: perplexities by context length and, at each, by species, contig and position."""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from torch import Tensor

from hyena_dist.data.sampling.coverage import Coverage
from hyena_dist.data.store import GenomeStore
from hyena_dist.data.store.manifest import Interval
from hyena_dist.train.evaluation.positions import Positions
from hyena_dist.train.evaluation.scores import Perplexity, estimate


class Unscored(NamedTuple):
    """The held-out bases that were not scored, counted by the reason."""

    n: int
    """Targets that are not A, C, G or T."""
    max_tokens: int
    """Targets of windows that were left out, so that there are no more than asked for."""
    no_window: int
    """Bases that no window has for a target: the first of a region, and ends that are too short for a window."""

    def __str__(self) -> str:
        reasons = {
            "N": self.n,
            "beyond --max-tokens": self.max_tokens,
            "at borders of regions, where no window fits": self.no_window,
        }
        said = ", ".join(f"{number:,} {reason}" for reason, number in reasons.items() if number)
        return f"not scored: {said}" if said else "all are scored"


class AtLength(NamedTuple):
    """The perplexities at one context length."""

    whole: Perplexity
    by_species: Mapping[str, Perplexity]
    """Perplexity by the name of the species; empty where the store has no labels."""
    by_contig: Mapping[str, Perplexity]
    """Perplexity by the name of the contig, in the order of the windows; contigs of N alone are left out."""
    by_position: Mapping[tuple[int, int], Perplexity]
    """Perplexity of the targets that have so many bases before them in their window, by (least, most)."""
    last: Mapping[int, Perplexity]
    """Perplexity of the last bases of every window, by their number."""
    coverage: Coverage
    """The held-out bases and contigs that windows reach."""
    unscored: Unscored
    gain: Mapping[str, Perplexity] | None = None
    """With the same bases at every length, the perplexity divided by that of the shortest length, and its interval from
    windows compared in pairs; by "all" or the number of the last bases."""

    def to_json(self) -> dict[str, Any]:
        """Return the breakdowns by name, numbers alone in them."""
        return {
            "by_species": {name: found.to_json() for name, found in self.by_species.items()},
            "by_contig": {name: found.to_json() for name, found in self.by_contig.items()},
            "by_position": [
                {"bases_before_least": least, "bases_before_most": most} | found.to_json()
                for (least, most), found in self.by_position.items()
            ],
            "last": {most: found.to_json() for most, found in self.last.items()},
            "gain": None if self.gain is None else {part: found.to_json() for part, found in self.gain.items()},
            "not_scored": self.unscored._asdict(),
        }


def break_down(
    sums: Tensor, windows: Sequence[Interval], positions: Positions, store: GenomeStore
) -> dict[str, dict[Any, Perplexity]]:
    """Return the perplexities of parts of the windows, by the names that AtLength has for them.

    Args:
        sums: losses and numbers of targets by window and part, as `window_sums` returns them, float64 [W, R, 2].
        windows: what was scored.
        positions: the parts.
        store: the store, which knows the species.
    """
    contigs: dict[str, list[int]] = {}
    species: dict[str, list[int]] = {}
    for i, window in enumerate(windows):
        contigs.setdefault(window.contig, []).append(i)
    for name, rows in contigs.items():
        if kind := store.species_of(name):
            species.setdefault(kind, []).extend(rows)
    octaves = {(low + 1, high): sums[:, 1 + i] for i, (low, high) in enumerate(positions.octaves)}
    last = dict(zip(positions.last, sums[:, 1 + len(octaves) :].unbind(1), strict=True))
    return {
        "by_species": _estimates({name: sums[rows, 0] for name, rows in species.items()}),
        "by_contig": _estimates({name: sums[rows, 0] for name, rows in contigs.items()}),
        "by_position": _estimates(octaves),
        "last": _estimates(last),
    }


def gains(sums: Tensor, shortest: Tensor, last: Sequence[int]) -> dict[str, Perplexity]:
    """Divide perplexities by those of the shortest length on the same targets, window by window.

    Args:
        sums: losses and numbers of targets by block and part, float64 [W, R, 2]; parts end with those of `last`.
        shortest: the same at the shortest length, which may have fewer parts, float64 [W, R', 2].
        last: numbers of bases at the end of a window.
    """
    named = {"all": 0} | {str(most): i - len(last) for i, most in enumerate(last)}
    compared = {name: sums[:, i].clone() for name, i in named.items()}
    for name, i in named.items():
        compared[name][:, 0] -= shortest[:, i, 0]
    return _estimates(compared)


def _estimates(sums: Mapping[Any, Tensor]) -> dict[Any, Perplexity]:
    """Return the perplexity of each entry that has a target that counts."""
    return {name: estimate(of) for name, of in sums.items() if of[:, 1].any()}
