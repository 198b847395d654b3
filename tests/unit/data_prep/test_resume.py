"""A build that is interrupted at any moment goes on, and ends in the same bytes as one that was not."""

import json
import os
import random
import resource
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from data_prep import assemble, build, ingest, part, partial
from data_prep.build import build_store
from data_prep.partial import PartialFolder
from data_prep.workers import run_tasks
from hyena_dist.errors import UserError

Content = Callable[[Path], dict[str, bytes]]
Run = Callable[..., str]
BUILD = [sys.executable, "-m", "data_prep", "build"]


def store_bytes(content: Content, store: Path) -> dict[str, bytes]:
    """Return the files of a store, and its manifest without what depends on when and where it was built."""
    files = content(store)
    manifest = json.loads(files.pop("manifest.json"))
    del manifest["created"], manifest["command"]
    return files | {"manifest.json": json.dumps(manifest).encode()}


@pytest.fixture(scope="module")
def inputs(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """Four files of three contigs of 2.2 Mb, so that a build has many moments."""
    folder = tmp_path_factory.mktemp("inputs")
    draw = np.random.default_rng(0)
    paths = []
    for number in range(4):
        path = folder / f"{number}.fa"
        with path.open("wb") as stream:
            for contig in range(3):
                text = bytearray(draw.choice(np.frombuffer(b"ACGT", np.uint8), 2_200_000).tobytes())
                text[300_000:400_000] = text[300_000:400_000].lower()
                stream.write(b">%d-%d\n%s\n" % (number, contig, text))
        paths.append(path)
    return paths


@pytest.fixture(scope="module")
def undisturbed(inputs: list[Path], tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, float]:
    """A store, and how long a process takes to build it."""
    out = tmp_path_factory.mktemp("undisturbed") / "s"
    start = time.monotonic()
    subprocess.run([*BUILD, *inputs, "--out", out, "--soft-mask"], check=True, capture_output=True)
    return out, time.monotonic() - start


@pytest.mark.parametrize("seed", range(6))
def test_killed_at_a_random_moment(
    tmp_path: Path, inputs: list[Path], undisturbed: tuple[Path, float], content: Content, seed: int
) -> None:
    store, seconds = undisturbed
    out = tmp_path / "s"
    command = [*BUILD, *inputs, "--out", out, "--soft-mask", "--processes", str(1 + seed % 2)]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    # Spread over the build, after the start of Python; random within the sixth.
    time.sleep(0.2 + (seed + random.random()) / 6 * seconds)
    process.kill()
    process.communicate()
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert "built" in done.stdout or "kept" in done.stdout
    assert store_bytes(content, out) == store_bytes(content, store)
    assert [path.name for path in tmp_path.iterdir()] == ["s"]


def test_killed_while_the_manifest_is_written(tmp_path: Path, genome: Path, run: Run, content: Content) -> None:
    """A file that the killed process had begun does not become part of the store."""
    run("build", genome, "--out", tmp_path / "whole")
    command = [*BUILD, str(genome), "--out", str(tmp_path / "s")]
    killer = "import os, signal, sys\nfrom data_prep.cli import main\n" + (
        "def hook(event, what):\n"
        "    if event == 'os.rename' and str(what[1]).endswith('store/manifest.json'):\n"
        "        os.kill(os.getpid(), signal.SIGKILL)\n"
        "sys.addaudithook(hook)\n"
        "sys.exit(main(sys.argv[1:]))"
    )
    killed = subprocess.run([sys.executable, "-c", killer, *command[3:]], capture_output=True)
    assert killed.returncode == -signal.SIGKILL
    assert list(tmp_path.rglob(".manifest.json.*.partial"))
    subprocess.run(command, check=True, capture_output=True)
    assert store_bytes(content, tmp_path / "s") == store_bytes(content, tmp_path / "whole")


def interrupt(patched: object, name: str, function: object, inputs: list[Path], out: Path, **options: bool) -> None:
    """Start a build in this process that is interrupted by `function`, which takes the place of patched.name."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(patched, name, function)
        with pytest.raises(KeyboardInterrupt):
            build_store(inputs, out, **options, say=lambda _: None)


def interrupt_after_reading(inputs: list[Path], out: Path) -> None:
    """Start a build in this process that is interrupted when its inputs are read."""
    interrupt(build, "assemble", _interrupt, inputs, out)


def test_what_is_finished_is_kept(tmp_path: Path, genome: Path, run: Run, content: Content, monkeypatch) -> None:
    monkeypatch.setattr(ingest, "_TASK_BYTES", 1)
    (tmp_path / "more.fa").write_text(">more\nACGT\n")
    inputs = [genome, tmp_path / "more.fa"]
    run("build", *inputs, "--out", tmp_path / "whole")
    interrupt_after_reading(inputs, tmp_path / "s")
    finished = tmp_path / "s.partial/parts/0/tokens/c/0"
    before = finished.stat().st_mtime_ns
    (tmp_path / "s.partial/parts/1/done.json").unlink()  # as if it was interrupted there
    written = []
    writer = part.TokenWriter
    monkeypatch.setattr(part, "TokenWriter", lambda *args: written.append(args) or writer(*args))
    said = run("build", *inputs, "--out", tmp_path / "s", "--processes", 1)
    assert "where 2 contigs with 4,000 bases are finished" in said
    assert [str(args[0])[-8:] for args in written] == ["1/tokens"]
    assert (tmp_path / "s/genome.zarr/tokens/0/c/0").stat().st_mtime_ns == before
    assert store_bytes(content, tmp_path / "s") == store_bytes(content, tmp_path / "whole")


@pytest.mark.parametrize(
    "damage",
    [
        lambda part: (part / "tokens/c/0").write_bytes(b"x"),
        lambda part: (part / "tokens/zarr.json").unlink(),
        lambda part: (part / "contigs.bin").write_bytes((part / "contigs.bin").read_bytes()[:-5]),
        lambda part: (part / "done.json").write_bytes((part / "done.json").read_bytes()[:-5]),
        lambda part: (part / "done.json").write_bytes(b"\0" * 50 + b"\n"),
        lambda part: (part / ".done.json.1.partial").write_bytes(b"half"),
    ],
)
def test_what_is_not_whole_is_made_anew(tmp_path: Path, genome: Path, run: Run, content, damage) -> None:
    run("build", genome, "--out", tmp_path / "whole")
    interrupt_after_reading([genome], tmp_path / "s")
    damage(tmp_path / "s.partial/parts/0")
    run("build", genome, "--out", tmp_path / "s")
    assert store_bytes(content, tmp_path / "s") == store_bytes(content, tmp_path / "whole")


def test_another_build_in_the_folder(tmp_path: Path, genome: Path, run: Run, refuse: Run) -> None:
    (tmp_path / "other.fa").write_text(">o\nACGT\n")
    interrupt_after_reading([genome], tmp_path / "s")
    for words in ([tmp_path / "other.fa"], [genome, "--soft-mask"], [genome, "--rename", "ensembl"]):
        message = refuse("build", *words, "--out", tmp_path / "s")
        assert "s.partial is an unfinished build of other input or options (from genome.fa)" in message
        assert "--overwrite" in message
    run("build", tmp_path / "other.fa", "--out", tmp_path / "s", "--overwrite")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["genome.fa", "other.fa", "s"]


def test_other_splits_use_what_is_finished(tmp_path: Path, genome: Path, run: Run, refuse: Run) -> None:
    """The sequences are there before the names of contigs can be checked, and are not read again."""
    assert "'chrQ' is not in" in refuse("build", genome, "--out", tmp_path / "s", "--valid-contigs", "chrQ")
    said = run("build", genome, "--out", tmp_path / "s", "--valid-contigs", "chr2")
    assert "where 2 contigs with 4,000 bases are finished" in said


def test_a_mended_input_is_read_again_and_the_others_are_kept(
    tmp_path: Path, run: Run, refuse: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ingest, "_TASK_BYTES", 1)
    good, bad = tmp_path / "good.fa", tmp_path / "bad.fa"
    good.write_text(">a\nACGT\n")
    bad.write_text(">b\nAC!T\n")
    assert "'!'" in refuse("build", good, bad, "--out", tmp_path / "s", "--processes", 1)
    bad.write_text(">b\nACTT\n")
    said = run("build", good, bad, "--out", tmp_path / "s", "--processes", 1)
    assert "bad.fa has changed since" in said
    assert "where 1 contigs with 4 bases are finished" in said


def test_killed_while_the_store_is_put_together(tmp_path: Path, genome: Path, run: Run, content) -> None:
    run("build", genome, "--out", tmp_path / "whole")
    for name in ("write_groups", "write_json"):
        interrupt(assemble, name, _interrupt, [genome], tmp_path / name)
        run("build", genome, "--out", tmp_path / name, "--split-fractions", "0.9,0.05,0.05")
        assert store_bytes(content, tmp_path / name) == store_bytes(content, tmp_path / "whole")


def test_killed_while_the_old_store_is_replaced(tmp_path: Path, genome: Path, run: Run, content) -> None:
    (tmp_path / "other.fa").write_text(">o\nACGT\n")
    run("build", tmp_path / "other.fa", "--out", tmp_path / "s")
    before = content(tmp_path / "s")
    interrupt(partial, "replace_atomically", _interrupt, [genome], tmp_path / "s", overwrite=True)
    assert content(tmp_path / "s.partial/old") == before
    run("build", genome, "--out", tmp_path / "s")
    run("verify", tmp_path / "s")
    assert not (tmp_path / "s.partial").exists()


@pytest.mark.parametrize(("flags", "says"), [([], "kept"), (["--overwrite"], "built")])
def test_killed_when_the_store_was_there_already(
    tmp_path: Path, genome: Path, run: Run, content: Content, flags: list[str], says: str
) -> None:
    interrupt(PartialFolder, "remove", _interrupt, [genome], tmp_path / "s")
    before = store_bytes(content, tmp_path / "s")
    assert (tmp_path / "s.partial/parts").exists()
    assert says in run("build", genome, "--out", tmp_path / "s", *flags)
    assert store_bytes(content, tmp_path / "s") == before
    assert sorted(path.name for path in tmp_path.iterdir()) == ["genome.fa", "s"]


def _interrupt(*_: object, **__: object) -> None:
    raise KeyboardInterrupt


def test_a_second_build_is_kept_out(tmp_path: Path, genome: Path, refuse: Run, monkeypatch) -> None:
    monkeypatch.setattr("data_prep.partial._LOCK_SECONDS", 0.1)
    with PartialFolder(tmp_path / "s").locked():
        assert "another build is at work in" in refuse("build", genome, "--out", tmp_path / "s")


def test_disk_full(tmp_path: Path, inputs: list[Path], undisturbed: tuple[Path, float], content: Content) -> None:
    """The limit on the size of a file stands for the end of the disk: the error comes from the same call."""
    command = [*BUILD, *inputs, "--out", tmp_path / "s", "--soft-mask"]

    def limit() -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (500_000, resource.RLIM_INFINITY))

    full = subprocess.run(command, preexec_fn=limit, capture_output=True, text=True)
    assert full.returncode == 2
    assert full.stderr.splitlines()[-1].startswith(f"error: {tmp_path}/s cannot be written (File too large), and ")
    assert "run the same command again" in full.stderr
    subprocess.run(command, check=True, capture_output=True)
    assert store_bytes(content, tmp_path / "s") == store_bytes(content, undisturbed[0])


def test_a_killed_worker_is_an_error() -> None:
    def work(task: int, report: Callable[..., object]) -> int:
        if task == 3:
            os.kill(os.getpid(), signal.SIGKILL)
        return task

    assert run_tasks(work, [1, 2], 2, print) == [1, 2]
    with pytest.raises(UserError, match=r"a worker process was killed \(exit code -9\)"):
        run_tasks(work, [1, 3, 2], 2, print)


def test_reports_and_errors_of_workers() -> None:
    def work(task: int, report: Callable[..., object]) -> int:
        report("seen", task)
        if task == 5:
            raise UserError("five")
        return -task

    seen: list[int] = []
    assert run_tasks(work, list(range(5)), 2, lambda kind, task: seen.append(task)) == [0, -1, -2, -3, -4]
    assert sorted(seen) == [0, 1, 2, 3, 4]
    with pytest.raises(UserError, match="five"):
        run_tasks(work, [1, 5], 2, lambda *_: None)
