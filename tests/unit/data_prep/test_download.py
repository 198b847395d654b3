"""`data download`: against a local web server that has small files under the names of the presets."""

import gzip
import hashlib
import json
import shlex
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from importlib import resources
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml

from data_prep.download import download
from data_prep.preset import load_preset, preset_names
from hyena_dist.data.store import GenomeStore
from hyena_dist.data.store.fetch import Limits
from hyena_dist.errors import UserError
from hyena_dist.system.locks import lock

QUICK = Limits(attempts=3, wait_s=0.01, timeout_s=0.3)
LABELLED = ("deepsea", "genomic-benchmarks", "nucleotide-transformer")
PRESETS = (*LABELLED, "hg38", "mm39", "species-5", "t2t-chm13")


def fasta(*names: str, length: int = 4000) -> bytes:
    letters = np.random.default_rng(len(names)).choice(np.frombuffer(b"ACGTacgt", np.uint8), (len(names), length))
    text = b"".join(
        b">%s a sequence\n%s\n" % (name.encode(), row.tobytes()) for name, row in zip(names, letters, strict=True)
    )
    return gzip.compress(text, mtime=0)


@pytest.fixture
def genomes(site: Any) -> Any:
    """A web server with small files under the names of the presets, and the providers' lists of checksums."""
    chromosomes = [f"chr{number}" for number in (*range(1, 23), "X")]
    for name in ("hg38.ml.fa.gz", "hs1.fa.gz", "mm39.fa.gz"):
        (site.folder / name).write_bytes(fasta(*chromosomes))
    rows = [f"chr{number}\t0\t1000\t{split}\n" for number, split in enumerate(("train", "valid", "test"), start=1)]
    (site.folder / "sequences_human.bed").write_text("".join(rows))
    names = ("hs1.fa.gz", "mm39.fa.gz")
    (site.folder / "md5sum.txt").write_text("".join(f"{md5(site.folder / name)}  {name}\n" for name in names))
    for file in load_preset("species-5").files:
        path = site.folder / file.name
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(fasta(f"{path.parent.name[:3].upper()}{path.name.removesuffix('.fna.gz')}.1", length=50))
        inside = file.url.split("_assembly_structure")[1]
        root = file.url.split("_assembly_structure")[0].rsplit("/", 1)[1]
        with (path.parent / "md5checksums.txt").open("a") as stream:
            stream.write(f"{md5(path)}  ./{root}_assembly_structure{inside}\n")
    return site


def md5(file: Path) -> str:
    return hashlib.md5(file.read_bytes()).hexdigest()


def asked(site: Any) -> list[str]:
    """Return the files that were fetched since the last call."""
    paths = [path for path, _range in site.asked if not path.endswith(("md5sum.txt", "md5checksums.txt"))]
    site.asked.clear()
    return paths


def test_presets_are_listed(run: Callable[..., str]) -> None:
    said = run("download", "--list")
    assert preset_names() == sorted(PRESETS)
    assert all(f"{name} " in said for name in PRESETS)
    assert "not yet tried" in said
    assert run("download") == said


@pytest.mark.parametrize("name", PRESETS)
def test_presets_say_where_from_and_whether_the_checksum_is_known(name: str) -> None:
    files = load_preset(name).files
    assert len({file.name for file in files}) == len(files)
    for file in files:
        assert file.url.startswith("https://")
        assert "{}" not in file.url + file.name
        assert file.checksum == "unknown" or file.checksum.startswith("https://"), "a checksum nobody can have seen"
        assert 0 < file.megabytes < 4000


def test_five_species_hold_out_the_chromosomes_of_the_paper() -> None:
    files = load_preset("species-5").files
    assert {file.species for file in files} == {"human", "lemur", "mouse", "pig", "hippo"}
    for split, numbers in (("test", (1, 3, 12, 13)), ("valid", (5, 7, 9, 10, 11))):
        for species in {file.species for file in files}:
            found = {file.name for file in files if file.species == species and file.split == split}
            assert found == {f"{species}/chr{number}.fna.gz" for number in numbers}


@pytest.mark.parametrize("name", ["hg38", "mm39", "t2t-chm13"])
def test_downloads_and_builds(tmp_path: Path, genomes: Any, run: Callable[..., str], name: str) -> None:
    said = run("download", name, "--out", tmp_path / "d", "--source", genomes.url, "--build")
    checked = "no checksum is known" if name == "hg38" else "md5 as expected"
    assert checked in said
    store = GenomeStore.open(tmp_path / "d" / "store")
    assert len(store.contigs) == 23
    assert all(store.splits[split] for split in ("train", "valid", "test"))
    assert "verified" in run("verify", tmp_path / "d" / "store")


def test_five_species(tmp_path: Path, genomes: Any, run: Callable[..., str]) -> None:
    said = run("download", "species-5", "--out", tmp_path / "d", "--source", genomes.url)
    assert said.count("md5 as expected") == len(load_preset("species-5").files)
    words = shlex.split(said.strip().splitlines()[-1])
    assert words[:3] == ["hyena-dist", "data", "build"]
    assert f"human={tmp_path}/d/source/human/chrX.fna.gz" in words
    assert run(*words[2:])
    store = GenomeStore.open(tmp_path / "d" / "store")
    assert store.species == ["human", "lemur", "mouse", "pig", "hippo"]
    assert len(store.contigs) == len(load_preset("species-5").files)
    held_out = {split: {region.contig for region in store.splits[split]} for split in ("valid", "test")}
    assert held_out["test"] == {f"{name}.chr{number}" for name in store.species for number in (1, 3, 12, 13)}
    assert held_out["valid"] == {f"{name}.chr{number}" for name in store.species for number in (5, 7, 9, 10, 11)}


@pytest.mark.parametrize(("name", "count"), [("genomic-benchmarks", 16), ("nucleotide-transformer", 36)])
def test_labelled_sequences_are_brought_and_nothing_is_built(
    tmp_path: Path, site: Any, run: Callable[..., str], name: str, count: int
) -> None:
    files = load_preset(name).files
    assert len(files) == count
    for file in files:
        path = site.folder / file.name
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(file.name.encode())
    said = run("download", name, "--out", tmp_path, "--source", site.url, "--build")
    source = tmp_path / "source"
    assert {str(path.relative_to(source)) for path in source.rglob("*.parquet")} == {file.name for file in files}
    assert said.splitlines()[-1] == "these are read as they are; `hyena-dist finetune --list` shows the recipes that do"
    assert not (tmp_path / "store").exists()


def test_second_run_checks_and_fetches_nothing(tmp_path: Path, genomes: Any) -> None:
    lines: list[str] = []
    words = download("hg38", tmp_path, genomes.url, say=lines.append)
    assert asked(genomes) == ["hg38.ml.fa.gz", "sequences_human.bed"]
    sha256 = hashlib.sha256((genomes.folder / "hg38.ml.fa.gz").read_bytes()).hexdigest()
    assert any(sha256 in line for line in lines)
    assert json.loads((tmp_path / "source/checksums.json").read_text())["hg38.ml.fa.gz"]["sha256"] == sha256
    assert download("hg38", tmp_path, genomes.url, say=lines.append) == words
    assert asked(genomes) == []
    assert "is there" in lines[-1]
    assert "sha256 as expected" in lines[-1]


def test_what_was_once_fetched_stays_the_same(tmp_path: Path, genomes: Any) -> None:
    download("hg38", tmp_path, genomes.url, say=lambda line: None)
    target = tmp_path / "source/hg38.ml.fa.gz"
    target.write_bytes(target.read_bytes()[:-1] + b"x")
    with pytest.raises(UserError, match=r"is not what it should be .*; delete it"):
        download("hg38", tmp_path, genomes.url, say=lambda line: None)
    target.unlink()
    download("hg38", tmp_path, genomes.url, say=lambda line: None)
    assert md5(target) == md5(genomes.folder / "hg38.ml.fa.gz")
    target.unlink()
    (genomes.folder / "hg38.ml.fa.gz").write_bytes(fasta("chr1"))
    with pytest.raises(UserError, match="its sha256 is"):
        download("hg38", tmp_path, genomes.url, limits=QUICK, say=lambda line: None)


def test_notes_of_another_download_are_kept(tmp_path: Path, genomes: Any) -> None:
    folder = tmp_path / "out" / "source"
    other = {"other.fa": {"bytes": 1, "sha256": "0"}}
    with ThreadPoolExecutor() as pool:
        with lock(folder / ".checksums.json.lock"):
            done = pool.submit(download, "hg38", tmp_path / "out", genomes.url, say=str)
            time.sleep(0.5)
            (folder / "checksums.json").write_text(json.dumps(other))
        done.result()
    assert sorted(json.loads((folder / "checksums.json").read_text())) == [
        "hg38.ml.fa.gz", "other.fa", "sequences_human.bed"
    ]  # fmt: skip


def test_file_that_was_put_there_by_hand(tmp_path: Path, genomes: Any) -> None:
    (tmp_path / "source").mkdir()
    target = tmp_path / "source/mm39.fa.gz"
    target.write_bytes((genomes.folder / "mm39.fa.gz").read_bytes())
    lines: list[str] = []
    download("mm39", tmp_path, genomes.url, say=lines.append)
    assert asked(genomes) == []
    assert "md5 as expected" in lines[-1]
    (tmp_path / "source/checksums.json").unlink()
    target.write_bytes(b"something else")
    with pytest.raises(UserError, match="its md5 is not"):
        download("mm39", tmp_path, genomes.url, say=lines.append)


def test_files_that_differ_from_the_providers_list(tmp_path: Path, genomes: Any) -> None:
    (genomes.folder / "mm39.fa.gz").write_bytes(fasta("chr1"))
    with pytest.raises(UserError, match="its md5 is"):
        download("mm39", tmp_path, genomes.url, limits=QUICK, say=lambda line: None)
    assert not (tmp_path / "source/mm39.fa.gz").exists()


def test_list_that_is_not_there_or_lacks_the_file(tmp_path: Path, genomes: Any) -> None:
    lines: list[str] = []
    (genomes.folder / "md5sum.txt").write_text("0123  other.fa.gz\n")
    download("mm39", tmp_path / "a", genomes.url, say=lines.append)
    assert "does not name it; kept in checksums.json" in lines[-1]
    (genomes.folder / "md5sum.txt").unlink()
    download("mm39", tmp_path / "b", genomes.url, say=lines.append)
    assert "md5sum.txt is not there; kept" in lines[-1]


def test_interrupted_download_goes_on(tmp_path: Path, genomes: Any) -> None:
    genomes.faults["mm39.fa.gz"] = ["truncate", 503, "..."]
    with pytest.raises(UserError, match="HTTP 503"):
        download("mm39", tmp_path, genomes.url, limits=QUICK, say=lambda line: None)
    genomes.faults.clear()
    genomes.asked.clear()
    download("mm39", tmp_path, genomes.url, say=lambda line: None)
    size = (genomes.folder / "mm39.fa.gz").stat().st_size
    assert ("mm39.fa.gz", f"bytes={size // 2}-") in genomes.asked


@pytest.mark.parametrize("source", ["{}", "pipe:cat {}/{{}}"])
def test_folder_or_command_as_source(tmp_path: Path, genomes: Any, run: Callable[..., str], source: str) -> None:
    run("download", "mm39", "--out", tmp_path / "d", "--source", source.format(genomes.folder))
    assert md5(tmp_path / "d/source/mm39.fa.gz") == md5(genomes.folder / "mm39.fa.gz")
    assert genomes.asked == []


def test_file_that_is_not_there(tmp_path: Path, genomes: Any) -> None:
    (genomes.folder / "mm39.fa.gz").unlink()
    for source in (genomes.url, str(genomes.folder)):
        with pytest.raises(UserError, match=r"mm39\.fa\.gz (is not there|cannot be fetched \(HTTP 404)"):
            download("mm39", tmp_path, source, say=lambda line: None)


def test_offline(tmp_path: Path, genomes: Any) -> None:
    with pytest.raises(UserError, match=r"cannot be resolved; connect this machine.*--source"):
        download("mm39", tmp_path, "http://no-such-host.invalid", say=lambda line: None)


def test_no_space(tmp_path: Path) -> None:
    preset = {
        "description": "d",
        "files": [{"url": "http://h/a", "name": "a", "megabytes": 1e12, "checksum": "unknown"}],
    }
    (tmp_path / "p.yaml").write_text(yaml.safe_dump(preset))
    with pytest.raises(UserError, match=r"takes about 1000000000\.0 GB .*; free some space"):
        download(str(tmp_path / "p.yaml"), tmp_path / "d")


def own(tmp_path: Path, **changes: Any) -> Path:
    file = {"url": "http://h/a.fa", "name": "a.fa", "megabytes": 1, "checksum": "unknown", **changes}
    (tmp_path / "own.yaml").write_text(yaml.safe_dump({"description": "mine", "files": [file]}))
    return tmp_path / "own.yaml"


@pytest.mark.parametrize("algorithm", ["sha256", "md5"])
def test_yaml_of_ones_own(tmp_path: Path, genomes: Any, run: Callable[..., str], algorithm: str) -> None:
    content = (genomes.folder / "mm39.fa.gz").read_bytes()
    digest = hashlib.new(algorithm, content).hexdigest()
    preset = own(tmp_path, url=f"{genomes.url}/mm39.fa.gz", checksum=f"{algorithm}:{digest}", species="mouse")
    said = run("download", preset, "--out", tmp_path / "d")
    assert f"{algorithm} as expected" in said
    assert f"mouse={tmp_path}/d/source/a.fa" in said
    assert "not yet tried" not in said


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"checksum": "md5:xyz"}, "neither unknown"),
        ({"name": "../a.fa"}, "not a path below"),
        ({"colour": "red"}, "Extra inputs"),
        ({"each": [1, 2]}, "each goes with"),
        ({"url": "http://h/{}", "name": "{}", "each": [1, 2], "test": [3]}, "3 in valid or test"),
    ],
)
def test_yaml_that_is_wrong(tmp_path: Path, refuse: Callable[..., str], changes: dict[str, Any], reason: str) -> None:
    assert reason in refuse("download", own(tmp_path, **changes))


def test_no_such_preset(tmp_path: Path, refuse: Callable[..., str]) -> None:
    assert "genomic-benchmarks, hg38, mm39, nucleotide-transformer, species-5, t2t-chm13" in refuse("download", "hg37")
    assert "cannot be read" in refuse("download", tmp_path / "none.yaml")
    (tmp_path / "x.yaml").write_text("a: [")
    assert "is not YAML" in refuse("download", tmp_path / "x.yaml")


def test_presets_are_in_the_package() -> None:
    assert (resources.files("data_prep") / "presets" / "hg38.yaml").is_file()
    pyproject = (Path(__file__).parents[3] / "pyproject.toml").read_text()
    assert '"presets/*.yaml"' in pyproject
