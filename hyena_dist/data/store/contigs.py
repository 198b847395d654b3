"""The contigs of a store: a mapping from name to length for a few, and columns of numbers for a million."""

from bisect import bisect_left
from collections.abc import Iterator, Mapping
from functools import cached_property, lru_cache
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

Positions = NDArray[np.int64]
"""Positions or counts of positions, in bases."""
_REMEMBERED = 2**14
"""How many names are remembered with their numbers, which takes a search otherwise."""


class Columns(Protocol):
    """The arrays of a store's index, each by its name."""

    def __getitem__(self, name: str) -> NDArray[np.generic]:
        """Return an array, read-only and mapped from its file."""
        ...

    def __contains__(self, name: object) -> bool:
        """Tell whether there is an array of this name."""
        ...


class Contigs(Mapping[str, int]):
    """The contigs of a store in the order of its inputs, as a mapping from the name of each to its length in bases.

    Nothing is read before it is needed, and what is read stays mapped, so that many processes share it.

    Attributes:
        number: the number of each contig in the order of the store, by its name.
        species_names: names of the species, in the order of the inputs; none where these had no labels.

    Args:
        columns: the index of the store.
        species: names of the species.
    """

    def __init__(self, columns: Columns, species: list[str]) -> None:
        self._columns = columns
        self.species_names = species
        self.number = _Numbers(self)
        self._number = lru_cache(_REMEMBERED)(self._find)

    @cached_property
    def offset(self) -> Positions:
        """Where each contig begins when all lie end to end and, last, where the last ends; int64 [contigs + 1]."""
        return np.append(0, self._columns["end"]).astype(np.int64)

    @property
    def lengths(self) -> Positions:
        """Bases of each contig, int64 [contigs]."""
        return np.diff(self.offset)

    @cached_property
    def place(self) -> Positions:
        """Where each contig's first base is in the files of tokens, counted end to end; int64 [contigs]."""
        return self._columns["place"].astype(np.int64)

    @property
    def composition(self) -> Positions:
        """How many bases of each contig are A, C, G, T and N, int64 [contigs, 5]."""
        return self._columns["composition"].astype(np.int64)

    @property
    def soft_masked(self) -> Positions:
        """How many letters of each contig were lower-case, int64 [contigs]."""
        return self._columns["soft_masked"].astype(np.int64)

    @property
    def sha256(self) -> NDArray[np.uint8]:
        """The sha256 of each contig's tokens, one byte per base; uint8 [contigs, 32]."""
        return self._columns["sha256"].astype(np.uint8, copy=False)

    @cached_property
    def species(self) -> NDArray[np.int64]:
        """The place of each contig's species in `species_names`, or -1 without labels; int64 [contigs]."""
        if "species" not in self._columns:
            return np.full(len(self), -1, np.int64)
        return self._columns["species"].astype(np.int64)

    def species_of(self, number: int) -> str | None:
        """Return the species of a contig, or None without labels."""
        species = int(self.species[number])
        return self.species_names[species] if species >= 0 else None

    def name(self, number: int) -> str:
        """Return the name of a contig by its number."""
        return self._bytes(number).decode("utf-8", "replace")

    def at(self, positions: Positions | int) -> NDArray[np.int64]:
        """Return the number of the contig that holds each position of all contigs end to end."""
        return np.searchsorted(self.offset, positions, side="right") - 1

    def __getitem__(self, name: str) -> int:
        number = self.number[name]
        return int(self.offset[number + 1] - self.offset[number])

    def __iter__(self) -> Iterator[str]:
        ends = self._columns["name_end"]
        step = 2**16  # names are cut out of some of the text at a time
        for first in range(0, len(self), step):
            stops = ends[first : first + step].tolist()
            start = int(ends[first - 1]) if first else 0
            text = self._columns["names"][start : stops[-1]].tobytes()
            at = 0
            for stop in stops:
                yield text[at : stop - start].decode("utf-8", "replace")
                at = stop - start

    def __len__(self) -> int:
        return len(self._columns["end"])

    def __contains__(self, name: object) -> bool:
        return name in self.number

    def _bytes(self, number: int) -> bytes:
        ends = self._columns["name_end"]
        start = int(ends[number - 1]) if number else 0
        return self._columns["names"][start : int(ends[number])].tobytes()

    def _find(self, name: str) -> int:
        """Return the number of a name, or -1 if there is none."""
        order = self._columns["by_name"]
        wanted = name.encode("utf-8", "surrogateescape")
        at = bisect_left(range(len(self)), wanted, key=lambda i: self._bytes(int(order[i])))
        if at < len(self) and self._bytes(number := int(order[at])) == wanted:
            return number
        return -1


class _Numbers(Mapping[str, int]):
    """The mapping from the name of each contig to its number."""

    def __init__(self, contigs: Contigs) -> None:
        self._contigs = contigs

    def __getitem__(self, name: str) -> int:
        number = self._contigs._number(name)
        if number < 0:
            raise KeyError(name)
        return number

    def __iter__(self) -> Iterator[str]:
        return iter(self._contigs)

    def __len__(self) -> int:
        return len(self._contigs)
