"""FASTA whose headers have labels, `>name|label` or `>name label`, as the Nucleotide Transformer's tasks."""

from pathlib import Path

from hyena_dist.data.text.contigs import read_contigs
from hyena_dist.data.text.files import read_lines
from hyena_dist.errors import UserError
from hyena_dist.inference.sequences import whole
from hyena_dist.tasks.readers.rows import Rows, distinct


def read_labelled_fasta(path: Path, split: str | None, label: str | None) -> Rows:
    """Return the sequences of a FASTA file.

    Args:
        path: the file.
        split: the split of all, if it is known.
        label: the class of all, if the name of the file says it.

    Raises:
        UserError: what `read_contigs` refuses but for names that come twice, or a header has no label.
    """
    headers = [line[1:].strip() for line in read_lines(path) if line.startswith(">")]
    names = iter(distinct(header.split(maxsplit=1)[0] if header else "" for header in headers))
    contigs = read_contigs(path, lambda _: next(names))
    labels = [label or _label(path, header) for header in headers]
    return Rows(str(path), whole(contigs), {"label": labels}, None if split is None else [split] * len(labels))


def has_label(path: Path) -> bool:
    """Return whether the first header of a FASTA file has a label."""
    first = next((line[1:] for line in read_lines(path) if line.startswith(">")), "")
    return _label_of(first) is not None


def _label(path: Path, header: str) -> str:
    label = _label_of(header)
    if label is None:
        raise UserError(f"record {header[:60]!r} of {path} has no label; write >name|label or >name label")
    return label


def _label_of(header: str) -> str | None:
    words = header.strip().split(maxsplit=1)
    if len(words) == 2:
        return words[1]
    before, bar, after = header.strip().rpartition("|")
    return after if bar and before and after else None
