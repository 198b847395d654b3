"""From FASTA to a verified store, by the time that gzip takes to decompress the same files."""

import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from hyena_dist.bench.record import record
from hyena_dist.errors import UserError

_GZIP = 'set -o pipefail; gzip -dc "$0" | wc -c'

COLUMNS = ("gzip_s", "build_s", "verify_s", "ratio", "bytes_per_base")


def bench_ingest(fasta: Path, copies: int, repeats: int, out: Path | None) -> None:
    """Build and verify a store of so many copies of a gzip file, beside `gzip -dc` of them into `wc -c`.

    All run in processes of their own, as a user has them; the store is made in the folder for temporary files.

    Raises:
        UserError: a file that is not there or that gzip cannot read.
    """
    if not fasta.is_file():
        raise UserError(f"{fasta} is not a file; give a FASTA file compressed by gzip or bgzip")
    rows = []
    print(f"{copies} copies of {fasta.name}; seconds")
    print("".join(f"{column:>16}" for column in COLUMNS))
    with tempfile.TemporaryDirectory() as folder:
        store = Path(folder) / "store"
        hyena_dist = [sys.executable, "-m", "hyena_dist", "data"]
        inputs = [f"c{i}={fasta.resolve()}" for i in range(copies)]
        for _ in range(repeats):
            shutil.rmtree(store, ignore_errors=True)
            decompressed = sum(_seconds(["bash", "-c", _GZIP, str(fasta.resolve())]) for _ in range(copies))
            build = _seconds([*hyena_dist, "build", *inputs, "--out", str(store)])
            verify = _seconds([*hyena_dist, "verify", str(store)])
            size = sum(file.stat().st_size for file in store.rglob("*") if file.is_file())
            rows.append((decompressed, build, verify, (build + verify) / decompressed, size / _bases(store)))
            print("".join(f"{value:>16.3f}" for value in rows[-1]), flush=True)
    medians = [statistics.median(column) for column in zip(*rows, strict=True)]
    print("".join(f"{value:>16.3f}" for value in medians), " medians")
    if out is not None:
        record(out, "ingest", COLUMNS, rows, {"file": fasta.name, "copies": copies, "repeats": repeats})


def _seconds(command: list[str]) -> float:
    begin = time.perf_counter()
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode:
        raise UserError(
            f"`{' '.join(command[:5])} ...` failed ({done.stderr.strip().splitlines()[-1]}); give a FASTA file in gzip"
        )
    return time.perf_counter() - begin


def _bases(store: Path) -> int:
    from hyena_dist.data.store import GenomeStore

    return sum(GenomeStore.open(store).contigs.values())
