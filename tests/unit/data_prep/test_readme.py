"""The format's specification says what the code does."""

import re
from importlib.resources import files
from pathlib import Path

import zarr

from data_prep.build import BuildOptions
from data_prep.cli import main
from hyena_dist.data.store import manifest as layout
from hyena_dist.data.store.manifest import read_manifest
from hyena_dist.data.tokenizer import TOKENS

README = files("data_prep").joinpath("README.md").read_text(encoding="utf-8")


def test_every_key_of_the_manifest_is_described(tmp_path: Path, genome: Path) -> None:
    assert main(["build", str(genome), "--out", str(tmp_path / "s")]) == 0
    assert main(["shards", str(tmp_path / "s"), "--out", str(tmp_path / "shards")]) == 0
    store, shards = read_manifest(tmp_path / "s"), read_manifest(tmp_path / "shards")
    table = README[README.index("## manifest.json") : README.index("## index")]
    described = re.findall(r"^\| `(\w+)` \|", table, flags=re.MULTILINE)
    assert set(store) | set(shards) == set(described)
    for part in ("options", "splits", "shards", "sources"):
        entry = shards[part] if isinstance(shards[part], dict) else shards[part][0]
        entry = entry["train"] if part == "splits" else entry
        row = re.search(rf"^\| `{part}` \|.*$", README, flags=re.MULTILINE)
        assert row
        assert all(f"`{key}`" in row[0] for key in entry), part


def test_numbers(tmp_path: Path, genome: Path) -> None:
    main(["build", str(genome), "--out", str(tmp_path / "s")])
    array = zarr.open_array(str(tmp_path / "s/genome.zarr/tokens/0"), mode="r")
    assert (array.chunks, array.fill_value) == ((layout.ZARR_CHUNK,), layout.ZARR_FILL)
    for number in (layout.ZARR_CHUNK, layout.ZARR_SHARD, 2**20 + 1, BuildOptions().interval_length):
        assert f"{number:,}" in README
    assert f"version {layout.VERSION}" in README
    assert " ".join(f"{name} {token}" for token, name in enumerate(TOKENS)) in README


def test_every_array_of_the_index_is_described(tmp_path: Path, genome: Path) -> None:
    (tmp_path / "x.bed").write_text("x.chr1\t0\t9\ttrain\nx.chr1\t3\t20\ttrain\n")
    words = ["build", f"x={genome}", "--out", str(tmp_path / "s"), "--soft-mask", "--bed", str(tmp_path / "x.bed")]
    assert main(words) == 0
    assert main(["shards", str(tmp_path / "s"), "--out", str(tmp_path / "shards")]) == 0
    table = README[README.index("## index") : README.index("## genome.zarr")]
    described = {
        name for row in re.findall(r"^\| (`.*?) \|", table, flags=re.MULTILINE) for name in row.split("`")[1::2]
    }
    stored = {path.stem for folder in ("s", "shards") for path in (tmp_path / folder / "index").iterdir()}
    assert stored == described
