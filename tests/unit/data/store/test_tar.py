"""Ranges are read across samples and tars, local and remote, and no damage passes."""

import json
from functools import partial
from hashlib import sha256
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from data_prep.build import build_store
from data_prep.shards import ShardOptions, write_shards
from hyena_dist.data.store import GenomeStore
from hyena_dist.errors import UserError


@pytest.mark.parametrize("window", [2, 3, 100, 101, 499, 500, 501, 2**20 + 1])
def test_any_window_size_gives_all_bases(store_folder: Path, tmp_path: Path, window: int) -> None:
    if window < 50:  # a sample for each base would take long, so only a small contig
        (tmp_path / "x.fa").write_text(">small\n" + "ACGTN" * 100)
        build_store([tmp_path / "x.fa"], tmp_path / "small", say=lambda line: None)
        store_folder = tmp_path / "small"
    write_shards(store_folder, tmp_path / "shards", ShardOptions(window, megabytes=1), say=lambda line: None)
    store, shards = GenomeStore.open(store_folder), GenomeStore.open(tmp_path / "shards")
    for contig, length in store.contigs.items():
        np.testing.assert_array_equal(shards.read(contig, 0, length), store.read(contig, 0, length))


@settings(max_examples=100, deadline=None)
@given(data=st.data())
def test_every_flipped_byte_of_tokens_is_named(
    shards_folder: Path, tmp_path_factory: pytest.TempPathFactory, data
) -> None:
    opened = GenomeStore.open(shards_folder)
    tar, _, number, start, end, offset = data.draw(st.sampled_from(opened.index["samples"].tolist()))
    path, contig = opened.manifest["shards"][tar]["path"], opened.contigs.name(number)
    at = data.draw(st.integers(offset, offset + end - start - 1))
    copy = tmp_path_factory.mktemp("flip")
    (copy / "index").mkdir()
    for file in shards_folder.rglob("*.*"):
        (copy / file.relative_to(shards_folder)).hardlink_to(file)
    content = bytearray((copy / path).read_bytes())
    content[at] ^= data.draw(st.integers(1, 255))
    (copy / path).unlink()
    (copy / path).write_bytes(content)
    reader = GenomeStore.open(copy)
    position = data.draw(st.integers(start, end - 2))
    message = f"{path} is damaged .*crc32c.*, so that {contig}:{start}-{end} cannot be read; `hyena-dist data verify"
    for _ in range(2):
        with pytest.raises(UserError, match=message):
            reader.read(contig, position, position + 1)


@pytest.mark.parametrize("file", ["train-000000.tar", "index/samples.npy"])
def test_missing_and_truncated_files(shards_copy: Path, file: str) -> None:
    good = (shards_copy / file).read_bytes()
    place = ", so that big:0-10001 cannot be read" if file.endswith("tar") else ""
    (shards_copy / file).write_bytes(good[:-1])
    with pytest.raises(UserError, match=f"{file} has {len(good) - 1} bytes instead of {len(good)}{place}; .*verify"):
        GenomeStore.open(shards_copy).read("big", 0, 5)
    (shards_copy / file).unlink()
    with pytest.raises(UserError, match=f"{file} is missing{place}; .*verify"):
        GenomeStore.open(shards_copy).read("big", 0, 5)


def test_a_flipped_byte_of_the_index(shards_copy: Path) -> None:
    file = shards_copy / "index/samples.npy"
    good = file.read_bytes()
    for at in np.random.default_rng(0).integers(0, len(good), 30).tolist():
        file.write_bytes(good[:at] + bytes([good[at] ^ 1]) + good[at + 1 :])
        with pytest.raises(UserError, match=r"samples\.npy is damaged .*sha256"):
            GenomeStore.open(shards_copy).read("big", 0, 5)


def test_ranges_that_no_sample_holds(shards_copy: Path) -> None:
    """Somebody left out the tars of valid and test, and their rows of the index."""
    file, manifest = shards_copy / "index/samples.npy", shards_copy / "manifest.json"
    told = json.loads(manifest.read_text())
    train = [tar["split"] == "train" for tar in told["shards"]]
    samples = np.load(file)
    np.save(file, samples[np.array(train)[samples["tar"]]])
    told["files"]["index/samples.npy"] = [file.stat().st_size, sha256(file.read_bytes()).hexdigest()]
    manifest.write_text(json.dumps(told))
    reader = GenomeStore.open(shards_copy)
    assert reader.read("big", 90_000, 100_000).size == 10_000
    with pytest.raises(UserError, match=r"big:100000-100001 is not in the shards of .*; read it from the store"):
        reader.read("big", 90_000, 100_001)


class _Server:
    """A real http server of a folder, which notes the paths that it was asked for."""

    def __init__(self, folder: Path) -> None:
        asked = self.asked = []

        class Handler(SimpleHTTPRequestHandler):
            def do_GET(self) -> None:
                asked.append(self.path)
                super().do_GET()

            def log_message(self, *_: object) -> None:
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), partial(Handler, directory=str(folder)))
        self.url = f"http://127.0.0.1:{self.server.server_port}"

    def __enter__(self) -> "_Server":
        Thread(target=self.server.serve_forever, daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self.server.shutdown()
        self.server.server_close()


def test_http_fetches_only_the_tars_that_are_read(shards_folder: Path, tmp_path: Path) -> None:
    local = GenomeStore.open(shards_folder)
    with _Server(shards_folder) as server:
        remote = GenomeStore.open(server.url, cache=tmp_path / "cache")
        assert remote.fingerprint == local.fingerprint
        for _ in range(2):
            np.testing.assert_array_equal(remote.read("small", 300, 350), local.read("small", 300, 350))
        index = [f"/index/{name}.npy" for name in ("by_name", "end", "name_end", "names", "samples")]
        assert sorted(server.asked) == [*index, "/manifest.json", "/valid-000000.tar"]
    again = GenomeStore.open(f"pipe:cat {shards_folder}/{{}}", cache=tmp_path / "cache")
    np.testing.assert_array_equal(again.read("big", 0, 200_000), local.read("big", 0, 200_000))


def test_a_remote_store_is_read_too(store_folder: Path, tmp_path: Path) -> None:
    remote = GenomeStore.open(f"pipe:cat {store_folder}/{{}}", cache=tmp_path)
    np.testing.assert_array_equal(
        remote.read("big", 0, 200_000), GenomeStore.open(store_folder).read("big", 0, 200_000)
    )
    np.testing.assert_array_equal(
        remote.soft_mask("big", 0, 200_000), GenomeStore.open(store_folder).soft_mask("big", 0, 200_000)
    )


def test_a_damaged_copy_is_named(shards_folder: Path, tmp_path: Path) -> None:
    base = f"pipe:cat {shards_folder}/{{}}"
    GenomeStore.open(base, cache=tmp_path).read("small", 300, 350)
    (tar,) = tmp_path.glob("*valid-000000.tar")
    content = bytearray(tar.read_bytes())
    content[:] = bytes(len(content))
    tar.write_bytes(content)
    message = f"{tar}, the copy of valid-000000.tar of pipe:.*, is damaged .* small:250-400 cannot be read; delete it"
    with pytest.raises(UserError, match=message):
        GenomeStore.open(base, cache=tmp_path).read("small", 300, 350)
    tar.unlink()
    assert GenomeStore.open(base, cache=tmp_path).read("small", 300, 350).size == 50
