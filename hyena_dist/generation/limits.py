"""Limits of repetition: which bases may follow what a sequence has so far.

Bases are 0 to 3 for A, C, G, T. Whatever else a prompt has, such as N, ends a run and is part of no n-gram.
"""

from collections import defaultdict

import numpy as np
from numpy.typing import NDArray

from hyena_dist.data.tokenizer import BASES
from hyena_dist.errors import UserError


class RunLimit:
    """No base more than `longest` times in a row, counted with the end of the prompt.

    Raises:
        UserError: a limit below 1.
    """

    def __init__(self, longest: int) -> None:
        if longest < 1:
            raise UserError(f"max_run {longest} lets no base stand even once; give at least 1")
        self.longest = longest
        self._last = -1
        self._run = 0

    def take(self, base: int) -> None:
        """Append a base, or another number for what is none."""
        self._run = self._run + 1 if base == self._last else 1
        self._last = base

    def forbidden(self) -> list[int]:
        """Return the bases that may not follow."""
        return [self._last] if self._run >= self.longest and 0 <= self._last < len(BASES) else []


class NGramLimit:
    """No n-gram of bases twice, counted with the prompt.

    Raises:
        UserError: n below 2.
    """

    def __init__(self, n: int) -> None:
        if n < 2:
            raise UserError(f"no_repeat {n} would end after four bases; give at least 2, and 10 or more for long ones")
        self.n = n
        self._recent = 0
        """The last n - 1 bases as a number in base 4."""
        self._known = 0
        """Bases since the start or the last letter that is none."""
        self._followed: defaultdict[int, set[int]] = defaultdict(set)

    def take(self, base: int) -> None:
        """Append a base, or another number for what is none."""
        if not 0 <= base < len(BASES):
            self._known = 0
            return
        if self._known >= self.n - 1:
            self._followed[self._recent].add(base)
        self._recent = (self._recent * len(BASES) + base) % len(BASES) ** (self.n - 1)
        self._known += 1

    def forbidden(self) -> set[int]:
        """Return the bases that may not follow."""
        return self._followed.get(self._recent, set()) if self._known >= self.n - 1 else set()


class Limits:
    """The limits of one sequence.

    Where they leave no base at all, as happens to long sequences without repeated short n-grams, n-grams do not count.
    """

    def __init__(self, max_run: int | None, no_repeat: int | None) -> None:
        self._run = None if max_run is None else RunLimit(max_run)
        self._ngrams = None if no_repeat is None else NGramLimit(no_repeat)

    def take(self, bases: NDArray[np.integer]) -> None:
        """Append bases, [L]."""
        for base in bases.tolist():
            if self._run is not None:
                self._run.take(base)
            if self._ngrams is not None:
                self._ngrams.take(base)

    def allowed(self) -> NDArray[np.bool_]:
        """Return which bases may follow, [4]."""
        found = np.ones(len(BASES), dtype=np.bool_)
        run = self._run.forbidden() if self._run else []
        found[run] = False
        without_run = found.copy()
        if self._ngrams:
            found[list(self._ngrams.forbidden())] = False
        return found if found.any() else without_run
