"""The README does what it says: every command in it runs, those for GPUs and clusters as a dry run."""

import os
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from tests.processes import run_cli

ROOT = Path(__file__).parents[2]
README = (ROOT / "README.md").read_text()
PARALLEL = (ROOT / "hyena_dist/parallel/README.md").read_text()
BIN = Path(sys.executable).parent
LAUNCHERS = {"deepspeed": "--num_gpus", "torchrun": "--nproc_per_node", "srun": "--ntasks-per-node"}


def blocks(language: str, text: str = README) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```", text, re.S | re.M)


def commands() -> list[str]:
    return [line for block in blocks("bash") for line in block.splitlines() if line and not line.startswith("#")]


@pytest.fixture(scope="module")
def workplace(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder where the README's paths exist: a user's clone with a genome in it."""
    folder = tmp_path_factory.mktemp("clone")
    for name in ("jobs", "tests"):
        (folder / name).symlink_to(ROOT / name)
    for name in ("Makefile", "pyproject.toml", "constraints.txt"):
        shutil.copy(ROOT / name, folder)
    bases = "".join(np.random.default_rng(0).choice(list("ACGT"), 60_000))
    (folder / "genome.fa").write_text(f">chr1\n{bases}\n")
    (folder / "genes.fa").write_text(f">first\n{bases[:900]}\n>second\n{bases[5000:5400]}\n")
    labelled = [f"{bases[i : i + 60]},{'GC'[i % 2]}" for i in range(0, 12_000, 75)]
    (folder / "promoters.csv").write_text("\n".join(["sequence,label", *labelled]) + "\n")
    other = {"A": "G", "G": "A", "C": "T", "T": "C"}[bases[999]]
    header = "##fileformat=VCFv4.2\n##contig=<ID=chr1,length=60000>\n#CHROM\tPOS\tID\tREF\tALT\tQUAL\tFILTER\tINFO\n"
    (folder / "calls.vcf").write_text(f"{header}chr1\t1000\t.\t{bases[999]}\t{other}\t.\t.\t.\n")
    subprocess.run(["gzip", "genome.fa"], cwd=folder, check=True)
    return folder


def runnable(command: str) -> list[str]:
    """The command itself, or its dry run if it needs a GPU, a cluster or many minutes."""
    words = shlex.split(command, comments=True)
    if words[0] == "make":
        return ["make", "--dry-run", *words[1:]]
    if words[0] in LAUNCHERS:
        ranks = words[words.index(LAUNCHERS[words[0]]) + 1]
        verb = words.index("hyena_dist") + 1
        return ["hyena-dist", *words[verb:], "--dry-run", "--world-size", ranks]
    return words


def test_every_command(workplace: Path) -> None:
    env = os.environ | {"PATH": f"{BIN}:{os.environ['PATH']}"}
    assert len(commands()) >= 10
    started = 0
    for command in commands():
        program, *words = runnable(command)
        if program == "hyena-dist" and started:  # one start of the program itself is enough
            done = run_cli(*words, cwd=workplace, env=env)
        else:
            done = subprocess.run([program, *words], cwd=workplace, env=env, capture_output=True, text=True)
            started += program == "hyena-dist"
        assert done.returncode == 0, f"{command}\n{done.stdout}{done.stderr}"
        assert "Traceback" not in done.stderr, command
    for made in ("runs/first/summary.json", "scored.vcf.gz.tbi", "genes.zarr/zarr.json", "exported/first/README.md"):
        assert (workplace / made).exists(), made


def test_python(workplace: Path) -> None:
    outputs = [r"torch.Size\(\[1, 6, 16\]\) \[\d\.\d+\]", r"torch.Size\(\[2, 1024, 16\]\)"]
    for script, output in zip(blocks("python") + blocks("python", PARALLEL), outputs, strict=True):
        done = subprocess.run(
            [sys.executable, "-c", script], cwd=workplace, capture_output=True, text=True, timeout=100
        )
        assert done.returncode == 0, done.stderr
        assert re.search(output, done.stdout), done.stdout


def test_paths_and_length() -> None:
    """At most about 150 lines, and every relative link and folder it names exists."""
    assert README.count("\n") <= 150
    for path in re.findall(r"\]\(([^)]+)\)", README):
        assert (ROOT / path).exists(), path
    for row in re.findall(r"^\| ([a-z_/, ]+) \|", README, re.M):
        for folder in row.split(", "):
            assert folder == "folder" or (ROOT / folder).is_dir(), folder
