"""Files of scored variants: the VCF's own records with INFO fields, and Parquet with a row for each alternative.

Shapes: A alternatives of a record, S strands.
"""

import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pysam
from numpy.typing import NDArray

from hyena_dist.inference.variant_scores import Scored, deltas
from hyena_dist.inference.vcf import BYTES

SUFFIXES = (".vcf", ".vcf.gz", ".vcf.bgz", ".parquet")
INFO = {
    "HYENA_DELTA": (
        "A",
        "Float",
        "Log-likelihood of the window with ALT minus that with REF, in nats; strands averaged",
    ),
    "HYENA_DELTA_MEAN": ("A", "Float", "The same of the means over scored bases"),
    "HYENA_SKIPPED": (".", "String", "Why alternatives were not scored, one after the other"),
}
"""What is added to a record: number, type and description."""
_ROWS = 2**16
_LONGEST_TBI = 2**29
"""Bases of a contig from which on the older kind of index has no numbers."""


class _Writer(Protocol):
    def __call__(self, scored: Scored, /) -> None: ...


def write_variants(
    paths: Mapping[Path, Path], header: Sequence[str], found: Iterable[Scored], job: Mapping[str, Any], longest: int
) -> None:
    """Write scored records to all files at once, so that they are read once.

    A compressed VCF gets an index beside it, which has its place before its file has.

    Args:
        paths: by the name that a file will have, which tells what it is, the path it is written to.
        header: the VCF's lines that begin with #.
        found: the records in the order of the input.
        job: what the scores depend on, for the files' headers.
        longest: bases of the longest contig, for the index.
    """
    with ExitStack() as stack:
        writers = [
            stack.enter_context((_parquet if name.suffix == ".parquet" else _vcf)(name, path, header, job))
            for name, path in paths.items()
        ]
        for scored in found:
            for write in writers:
                write(scored)
    for name, path in paths.items():
        if name.suffix in (".gz", ".bgz"):
            kind = "csi" if longest >= _LONGEST_TBI else "tbi"
            index = path.with_name(f"{path.name}.{kind}")
            pysam.tabix_index(str(path), preset="vcf", force=True, csi=kind == "csi", index=str(index))
            os.replace(index, name.with_name(f"{name.name}.{kind}"))


@contextmanager
def _vcf(name: Path, path: Path, header: Sequence[str], job: Mapping[str, Any]) -> Iterator[_Writer]:
    """Open a VCF file, and return what writes a record: as it was, with INFO fields of this name replaced."""
    ours = [f'##INFO=<ID={key},Number={n},Type={kind},Description="{text}">' for key, (n, kind, text) in INFO.items()]
    about = ",".join(f'{key}="{value}"' for key, value in job.items())
    others = [line for line in header if not line.startswith((*(f"##INFO=<ID={key}," for key in INFO), "##hyena_dist"))]
    lines = [*others[:-1], *ours, f"##hyena_dist_variants=<{about}>", others[-1]]
    compressed = name.suffix in (".gz", ".bgz")
    with pysam.BGZFile(str(path), "wb", None) if compressed else path.open("wb") as file:

        def write(scored: Scored) -> None:
            file.write((_with_info(scored) + "\n").encode("utf-8", BYTES))

        file.write(("\n".join(lines) + "\n").encode("utf-8", BYTES))
        yield write


def _with_info(scored: Scored) -> str:
    """Return the line of a record with the fields that are known of it."""
    columns = scored.record.text.split("\t", 8)
    old = [f for f in columns[7].split(";") if f not in ("", ".") and f.partition("=")[0] not in INFO]
    delta, mean = (by_strand.mean(1) for by_strand in deltas(scored.numbers))
    new = []
    if np.isfinite(delta).any():
        new += [f"HYENA_DELTA={_numbers(delta)}", f"HYENA_DELTA_MEAN={_numbers(mean)}"]
    if any(scored.skipped):
        new.append("HYENA_SKIPPED=" + ",".join(why or "." for why in scored.skipped))
    columns[7] = ";".join(old + new)
    return "\t".join(columns)


def _numbers(values: NDArray[np.float64]) -> str:
    return ",".join(f"{value:.6g}" if np.isfinite(value) else "." for value in values.tolist())


@contextmanager
def _parquet(name: Path, path: Path, header: Sequence[str], job: Mapping[str, Any]) -> Iterator[_Writer]:
    """Open a Parquet file, and return what writes the alternatives of a record."""
    about = {str(key): str(value) for key, value in job.items()}
    strands = 2 if job["strands"] == "both" else 1
    waiting: list[Scored] = []
    with pq.ParquetWriter(path, table_of([], strands).schema.with_metadata(about), compression="zstd") as file:

        def flush() -> None:
            if waiting:
                file.write_table(table_of(waiting, strands).replace_schema_metadata(about))
                waiting.clear()

        def write(scored: Scored) -> None:
            waiting.append(scored)
            if len(waiting) == _ROWS:
                flush()

        yield write
        flush()


def table_of(found: Sequence[Scored], strands: int) -> pa.Table:
    """Return a table with a row for each alternative.

    Its columns are chrom, pos (from 1), id, ref, alt, delta and delta_mean (strands averaged), of two strands the delta
    of each, log_likelihood_ref and log_likelihood_alt (of the windows, strands averaged), and skipped, null for what
    was scored.
    """
    numbers = np.concatenate([scored.numbers for scored in found]) if found else np.empty((0, strands, 4))
    of = [
        (scored.record, alt, why)
        for scored in found
        for alt, why in zip(scored.record.alts, scored.skipped, strict=True)
    ]
    delta, mean = deltas(numbers)
    columns = {
        "chrom": pa.array([record.chrom for record, _, _ in of], pa.string()),
        "pos": pa.array([record.position + 1 for record, _, _ in of], pa.int64()),
        "id": pa.array([record.name for record, _, _ in of], pa.string()),
        "ref": pa.array([record.ref for record, _, _ in of], pa.string()),
        "alt": pa.array([alt for _, alt, _ in of], pa.string()),
        "delta": pa.array(delta.mean(1), from_pandas=True),
        "delta_mean": pa.array(mean.mean(1), from_pandas=True),
    }
    if strands == 2:
        columns |= {
            f"delta_{strand}": pa.array(delta[:, i], from_pandas=True)
            for i, strand in enumerate(("forward", "reverse"))
        }
    columns |= {
        "log_likelihood_ref": pa.array(numbers[..., 0].mean(1), from_pandas=True),
        "log_likelihood_alt": pa.array(numbers[..., 1].mean(1), from_pandas=True),
        "skipped": pa.array([why or None for _, _, why in of], pa.string()),
    }
    return pa.table(columns)
