"""New sequences from a trained model: continuations of prompts, or sequences from nothing."""

from collections.abc import Iterator, Mapping
from io import StringIO
from itertools import chain
from pathlib import Path
from typing import NamedTuple, TextIO

import numpy as np
import torch

from hyena_dist.data.tokenizer import LETTERS, Tokens, decode, encode
from hyena_dist.errors import UserError
from hyena_dist.generation.layer_weights import hyena_layers
from hyena_dist.generation.limits import Limits
from hyena_dist.generation.samples import Settings, at_once, continuations
from hyena_dist.generation.sampling import Sampling
from hyena_dist.inference.load import Model, load_here
from hyena_dist.inference.parts import check_output
from hyena_dist.inference.sequences import as_sequences
from hyena_dist.models.lm import HyenaDNA
from hyena_dist.system.files import write_atomically
from hyena_dist.tracking.work_progress import WorkProgress

SUFFIXES = (".fa", ".fasta", ".fna")
LINE = 80
"""Letters of a line of FASTA."""

Prompt = str | Path | Mapping[str, str]
"""A text, the Path of a FASTA file or a table, each of whose sequences is a prompt, or texts by their names."""


def generate(
    model: Model,
    prompt: Prompt = "",
    *,
    length: int = 500,
    n: int = 1,
    temperature: float = 1.0,
    top_k: int = 4,
    top_p: float = 1.0,
    max_run: int | None = None,
    no_repeat: int | None = None,
    seed: int = 0,
    with_prompt: bool = False,
    batch: int | None = None,
    out: str | Path | TextIO | None = None,
    device: str = "cpu",
    dtype: torch.dtype | None = None,
    modulation_shift: float | None = None,
) -> list[str] | None:
    """Generate sequences of A, C, G and T, base by base, exactly as the model predicts them.

    >>> import hyena_dist
    >>> hyena_dist.generate("tests/golden/tiny", "ACGT", length=12, n=2, seed=1)
    ['AAAGAAAAAGGA', 'TTTAGAAAACAA']

    The time for a base grows with the logarithm of the length alone. A seed, the number of the prompt and that of the
    sequence determine a sequence, whatever is generated beside it; on GPUs and in bf16, rounding can change a base.

    Args:
        model: a model, or what `load` takes; all its layers are Hyena.
        prompt: what each sequence continues; nothing, if not given, and the first base is drawn evenly.
        length: new bases of a sequence, which with the prompt are at most the model's l_max.
        n: sequences for each prompt.
        temperature: below 1 for likelier bases, 0 for the likeliest.
        top_k: draw from so many of the likeliest bases.
        top_p: draw from the likeliest bases that together have this probability.
        max_run: how many times in a row a base may come, counted with the prompt's end.
        no_repeat: length of the n-grams that may not come twice, counted with the prompt; where no base is left, the
            rule is not applied.
        seed: from 0 on.
        with_prompt: begin each sequence with its prompt.
        batch: sequences at once; if not given, as many of 64 as 1 GiB holds.
        out: a .fa, .fasta or .fna file that is not there yet, or a text stream to which a single sequence goes base by
            base; if not given, the sequences are returned.
        device: where a model is loaded to. A model that is given stays where it is.
        dtype: the type a model is cast to when it is loaded.
        modulation_shift: shift of the decay of published models, as in `load_published`.

    Returns:
        The sequences, n of the first prompt, then n of the next; None with `out`.

    Raises:
        UserError: a mistake in any of these, before the work begins, or a model that gives NaN.
    """
    sampling = Sampling(temperature, top_k, top_p)
    Limits(max_run, no_repeat)
    for what, value, least in (
        ("length", length, 1),
        ("n", n, 1),
        ("batch", 1 if batch is None else batch, 1),
        ("seed", seed, 0),
    ):
        if value < least:
            raise UserError(f"{what} {value} is not a whole number from {least} on")
    file = Path(out) if isinstance(out, str | Path) else None
    if file is not None:
        check_output(file, SUFFIXES)
        if file.exists():
            raise UserError(f"{out} is there already and is not replaced; remove it, or name another file")
    prompts = _prompts(prompt)
    loaded = load_here(model, device, dtype, modulation_shift)
    hyena_layers(loaded)  # refuses other layers before anything is written
    for name, tokens in prompts:
        if len(tokens) + length > loaded.config.l_max:
            raise UserError(
                f"{length:,} new bases after the {len(tokens):,} of prompt {name!r} are beyond the "
                f"{loaded.config.l_max:,} that the model reads; shorten one of them"
            )
    settings = Settings(length, sampling, max_run, no_repeat, seed)
    groups = _groups(loaded, prompts, settings, n, batch or at_once(loaded, length))
    with WorkProgress("generating", len(prompts) * n * length, enabled=file is not None) as progress:
        if out is None:
            return [made for group in groups for made in group.texts(with_prompt, progress)]
        text = StringIO()
        stream = text if isinstance(out, str | Path) else out
        for group in groups:
            group.write(stream, with_prompt, progress)
            if _reader_left(stream):
                break
    if file is not None:
        write_atomically(file, text.getvalue())
    return None


def _prompts(prompt: Prompt) -> list[tuple[str, Tokens]]:
    """Return names and tokens of the prompts.

    Raises:
        UserError: a letter that is no nucleotide, or a file that cannot be read.
    """
    if isinstance(prompt, str):
        try:
            return [("sample", encode(prompt))]
        except UserError as error:
            raise UserError(f"the prompt: {error}") from error
    if isinstance(prompt, Path) and ".bed" in (suffix.lower() for suffix in prompt.suffixes):
        raise UserError(f"{prompt} has intervals, and prompts are sequences; give them in FASTA or in a table")
    given = as_sequences(prompt)
    return [(name, given.tokens(number)) for number, name in enumerate(given.names)]


class _Group(NamedTuple):
    """Sequences that are generated at once."""

    names: list[str]
    prompt: str
    tokens: Iterator[Tokens]
    """The next token of each, uint8 [B], again and again."""

    def texts(self, with_prompt: bool, progress: WorkProgress) -> list[str]:
        """Generate all, and return them."""
        columns = []
        for column in self.tokens:
            columns.append(column)
            progress.advance(len(column))
        rows = LETTERS[np.stack(columns, axis=1)]
        return [self.prompt * with_prompt + row.tobytes().decode() for row in rows]

    def write(self, to: TextIO, with_prompt: bool, progress: WorkProgress) -> None:
        """Write all as FASTA; a single one as its bases come, until the reader leaves."""
        if len(self.names) > 1:
            for name, text in zip(self.names, self.texts(with_prompt, progress), strict=True):
                lines = (text[first : first + LINE] for first in range(0, len(text), LINE))
                to.write("\n".join((f">{name}", *lines, "")))
            return
        at_once = 1 if to.isatty() else LINE
        to.write(f">{self.names[0]}\n")
        written = 0
        letters = (LETTERS[column].tobytes().decode() for column in self.tokens)
        for letter in chain(self.prompt * with_prompt, letters):
            to.write(letter)
            written += 1
            if written % LINE == 0:
                to.write("\n")
            if written % at_once == 0:
                to.flush()
                if _reader_left(to):
                    return
            progress.advance(1)
        to.write("\n" * (written % LINE > 0))


def _groups(
    model: HyenaDNA, prompts: list[tuple[str, Tokens]], settings: Settings, n: int, batch: int
) -> Iterator[_Group]:
    for of, (name, tokens) in enumerate(prompts):
        for first in range(0, n, batch):
            numbers = range(first, min(first + batch, n))
            names = [f"{name}_{number + 1}" for number in numbers]
            yield _Group(names, decode(tokens), continuations(model, tokens, settings, numbers, of))


def _reader_left(stream: TextIO) -> bool:
    """Return whether nobody reads what goes to a stream of `system.streams`."""
    return getattr(stream, "reader_left", False)
