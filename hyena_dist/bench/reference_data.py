"""The published way from FASTA to a batch, written down plainly: what `bench data` compares the loader with.

Facts of the HyenaDNA paper's code: a pyfaidx fetch of the first bases of an interval, or of it and as much on both
sides; text; a Python tokenizer of Hugging Face's kind with one token a character, which looks for special tokens at
every character and asks a method for the id of each; lists; one tensor, copied into inputs and targets; stacked.

Shapes: B batch, L sequence length.
"""

from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from hyena_dist.data.store.manifest import Interval
from hyena_dist.data.tokenizer import PAD, SEP, TOKENS, UNK
from hyena_dist.errors import UserError

_SPECIALS = [token for token in TOKENS if token.startswith("[")]


class PublishedTokenizer:
    """A tokenizer from text to token ids in Python, character by character."""

    def __init__(self) -> None:
        self._ids = {token: i for i, token in enumerate(TOKENS)}
        self._added = {token: self._ids[token] for token in _SPECIALS}
        self._trie: dict[str, Any] = {}
        for token in _SPECIALS:
            node = self._trie
            for letter in token:
                node = node.setdefault(letter, {})
            node["end"] = {}

    def __call__(self, text: str, max_length: int) -> dict[str, list[int]]:
        """Return the ids and attention mask of a text, cut or padded on the left to `max_length`."""
        tokens: list[str] = []
        for piece in self._split(text):
            if piece in self._added:
                tokens.append(piece)
            else:
                tokens.extend(list(piece))
        ids = [self._id_of_any(token) for token in tokens][:max_length]
        missing = max_length - len(ids)
        return {"input_ids": [PAD] * missing + ids, "attention_mask": [0] * missing + [1] * len(ids)}

    def _split(self, text: str) -> list[str]:
        """Split a text around its special tokens; all that have begun are followed at once."""
        begun: dict[int, dict[str, Any]] = {}
        cuts = [0]
        for at, letter in enumerate(text):
            ended = []
            for start, node in begun.items():
                if letter in node:
                    begun[start] = node[letter]
                    if "end" in node[letter]:
                        cuts += [start, at + 1]
                        ended.append(start)
                else:
                    ended.append(start)
            for start in ended:
                del begun[start]
            if letter in self._trie:
                begun[at] = self._trie[letter]
        cuts.append(len(text))
        return [text[start:end] for start, end in pairwise(cuts) if end > start]

    def _id_of_any(self, token: str) -> int:
        if token in self._added:
            return self._added[token]
        return self._id_of(token)

    def _id_of(self, token: str) -> int:
        return self._ids.get(token, UNK)


class PublishedDataset:
    """Windows of intervals from a FASTA file.

    Raises:
        UserError: pyfaidx is not installed or cannot read the file, or an interval's contig is not in it.
    """

    def __init__(self, fasta: Path, intervals: Sequence[Interval], max_length: int) -> None:
        try:
            import pyfaidx
        except ImportError:
            raise UserError(
                "bench data compares with pyfaidx, which is not installed; install it with pip install pyfaidx"
            ) from None
        try:
            self._contigs = pyfaidx.Fasta(str(fasta), sequence_always_upper=True)
        except (OSError, ValueError, ImportError, pyfaidx.FastaIndexingError) as error:
            raise UserError(f"pyfaidx cannot read {fasta} ({error}); give a plain FASTA file") from error
        if missing := {interval.contig for interval in intervals} - set(self._contigs.keys()):
            raise UserError(f"{fasta} lacks contig {min(missing)!r} of the store; give the FASTA that the store has")
        self._intervals = intervals
        self._max_length = max_length
        self._tokenizer = PublishedTokenizer()

    def __getitem__(self, index: int) -> tuple[Tensor, Tensor]:
        contig, start, end = self._intervals[index]
        sequence = self._contigs[contig]
        extra = self._max_length - (end - start)
        if extra > 0:
            start, end = max(0, start - extra // 2), min(len(sequence), end + extra - extra // 2)
        else:
            end = start + self._max_length
        ids = self._tokenizer(str(sequence[start:end]), self._max_length)["input_ids"]
        ids.append(SEP)
        whole = torch.LongTensor(ids)
        return whole[:-1].clone(), whole[1:].clone()

    def batch(self, indices: Sequence[int]) -> tuple[Tensor, Tensor]:
        """Return inputs and targets, int64 [B, L]."""
        inputs, targets = zip(*(self[i] for i in indices), strict=True)
        return torch.stack(inputs), torch.stack(targets)
