"""Stores of very many contigs, or of one very long one: build, verify, open and read, at few file descriptors."""

import gzip
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import NamedTuple

import numpy as np

from data_prep import demo_corpus
from hyena_dist.bench.record import record
from hyena_dist.data.store import GenomeStore
from hyena_dist.errors import UserError

COLUMNS = (
    "contigs", "bases", "gzip_s", "build_s", "build_ratio", "build_mb", "verify_s", "verify_mb", "bytes_per_base",
    "files", "open_s", "open_mb", "us_per_window", "window_ratio",
)  # fmt: skip
DESCRIPTORS = 256
"""How many files a process may have open."""
WINDOW = 1024
BATCH = 256
_PASSES = 9
_PIECE = 2**24
"""Bases that are drawn at a time."""


class _Ran(NamedTuple):
    """A process that has ended well."""

    output: str
    seconds: float
    megabytes: float
    """Memory of the largest process, it or one of those that it started."""


def bench_store(contigs: int, bases: int, repeats: int, out: Path | None) -> None:
    """Print what stores of generated sequences take, and write the table and the environment to `out`.

    One has contigs of 300 to 3,000 bases, the other one contig. All steps run in processes of their own that may have
    256 files open. Windows of 1,024 bases are read at random; their time is compared with that on the embedded part of
    human chromosome 20, in turn.

    Args:
        contigs: how many contigs the one has.
        bases: how long the one contig of the other is.
        repeats: measurements of each; medians are shown.
        out: folder for store.csv and store.json.
    """
    rows: list[tuple[float, ...]] = []
    with tempfile.TemporaryDirectory() as scratch:
        reference = Path(scratch, "reference")
        _run([*_data(), "build", str(demo_corpus()), "--out", str(reference)])
        for name, count in (("many", contigs), ("one", 1)):
            fasta = Path(scratch, f"{name}.fa.gz")
            sizes = np.random.default_rng(0).integers(300, 3001, contigs) if count > 1 else np.array([bases])
            _generate(fasta, sizes)
            found = [_measure(fasta, sizes, Path(scratch, f"{name}-{i}"), reference) for i in range(repeats)]
            rows.append(tuple(statistics.median(column) for column in zip(*found, strict=True)))
            fasta.unlink()
            print(f"\n{count:,} contigs of {int(sizes.sum()):,} bases together")
            for column, value in zip(COLUMNS[2:], rows[-1][2:], strict=True):
                print(f"  {column:<16}{value:>14,.3f}", flush=True)
    if out is not None:
        record(out, "store", COLUMNS, rows, {"descriptors": DESCRIPTORS, "window": WINDOW, "repeats": repeats})


def read_windows(stores: list[str]) -> None:
    """Print, as JSON, how long it takes to open the first of two stores, and to read a window of each, in turn.

    The medians are of passes over chunks that have been checked before, in microseconds of the processor.
    """
    begin = time.perf_counter()
    opened = [GenomeStore.open(store) for store in stores]
    opened[0].read(len(opened[0].contigs) - 1, 0, 1)
    seconds = time.perf_counter() - begin
    memory = _memory()
    times: list[list[float]] = [[] for _ in stores]
    places = []
    draw = np.random.default_rng(0)
    for store in opened:
        lengths = store.contigs.lengths
        numbers = draw.choice(np.flatnonzero(lengths >= WINDOW), BATCH * 4)
        places.append((numbers, draw.integers(0, lengths[numbers] - WINDOW + 1)))
    for _ in range(1 + _PASSES):
        for store, (numbers, starts), taken in zip(opened, places, times, strict=True):
            begin = time.process_time()
            for first in range(0, numbers.size, BATCH):
                store.read_many(numbers[first : first + BATCH], starts[first : first + BATCH], WINDOW)
            taken.append((time.process_time() - begin) / numbers.size * 1e6)
    windows = [statistics.median(taken[1:]) for taken in times]
    print(json.dumps({"open_s": seconds, "open_mb": memory, "windows": windows}))


def _measure(fasta: Path, sizes: np.ndarray, store: Path, reference: Path) -> tuple[float, ...]:
    """Return a row of the table for a FASTA file, from which a store is built and removed."""
    total = int(sizes.sum())
    unpacked = _run(["bash", "-c", f"gzip -dc {fasta} | wc -c"])
    build = _run([*_data(), "build", str(fasta), "--out", str(store)])
    verify = _run([*_data(), "verify", str(store)])
    files = [file for file in store.rglob("*") if file.is_file()]
    size = sum(file.stat().st_size for file in files)
    code = "import sys; from hyena_dist.bench.store import read_windows; read_windows(sys.argv[1:])"
    read = json.loads(_run([sys.executable, "-c", code, str(store), str(reference)]).output)
    _run(["rm", "-r", str(store)])
    ours, known = read["windows"]
    return (
        sizes.size, total, unpacked.seconds, build.seconds, build.seconds / unpacked.seconds, build.megabytes,
        verify.seconds, verify.megabytes, size / total, len(files), read["open_s"], read["open_mb"], ours, ours / known,
    )  # fmt: skip


def _generate(path: Path, sizes: np.ndarray) -> None:
    """Write random contigs of these sizes as FASTA in gzip; of a long one, the same piece again and again."""
    draw = np.random.default_rng(1)
    letters = np.frombuffer(b"ACGT", np.uint8)
    piece = letters[draw.integers(0, 4, _PIECE, dtype=np.uint8)].tobytes()
    with gzip.open(path, "wb", compresslevel=1) as stream:
        for number, size in enumerate(sizes.tolist()):
            stream.write(b">scaffold_%d length=%d\n" % (number, size))
            first = int(draw.integers(0, _PIECE - 3000))
            while size:
                text = piece[first : first + size]
                stream.write(text)
                size -= len(text)
                first = 0
            stream.write(b"\n")


def _data() -> list[str]:
    return [sys.executable, "-m", "hyena_dist", "data"]


def _run(command: list[str]) -> _Ran:
    """Run a command with few file descriptors.

    Raises:
        UserError: it failed.
    """
    limited = ["bash", "-c", f'ulimit -n {DESCRIPTORS}; exec "$@"', "bash", *command]
    begin = time.perf_counter()
    with tempfile.TemporaryFile() as output, tempfile.TemporaryFile() as errors:
        process = subprocess.Popen(limited, stdout=output, stderr=errors)
        _, status, usage = os.wait4(process.pid, 0)
        seconds = time.perf_counter() - begin
        process.returncode = os.waitstatus_to_exitcode(status)
        output.seek(0)
        errors.seek(0)
        if process.returncode:
            last = errors.read().decode(errors="replace").strip().splitlines()[-1:]
            raise UserError(f"`{' '.join(command[:5])} ...` failed ({' '.join(last)}); free some space or ask for less")
        return _Ran(output.read().decode(), seconds, usage.ru_maxrss / 1024)


def _memory() -> float:
    """Return the most memory that this process has had, in MiB."""
    import resource

    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
