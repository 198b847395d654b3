"""Files written tensor by tensor are those of safetensors."""

import hashlib
import resource
from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from safetensors.torch import load_file, save_file
from torch import Tensor

from hyena_dist.train.checkpoint import tensor_file
from hyena_dist.train.checkpoint.tensor_file import TensorFile, file_order, write_tensors

TYPES = [torch.float32, torch.float64, torch.bfloat16, torch.int64, torch.uint8, torch.bool]
SHAPES = st.lists(st.integers(0, 5), max_size=3).map(tuple)
NAMES = st.text(st.characters(codec="utf-8", exclude_characters="\0"), min_size=1, max_size=8).filter(
    lambda name: name != "__metadata__"
)


def tensor_of(dtype: torch.dtype, shape: tuple[int, ...]) -> Tensor:
    return torch.randint(0, 100, shape).to(dtype)


@given(st.dictionaries(NAMES, st.builds(tensor_of, st.sampled_from(TYPES), SHAPES), max_size=6))
def test_reads_back(tmp_path_factory: pytest.TempPathFactory, tensors: dict[str, Tensor]) -> None:
    path = tmp_path_factory.mktemp("files") / "x.safetensors"
    write_tensors(path, tensors)
    found = load_file(path)
    assert found.keys() == tensors.keys()
    for name, tensor in tensors.items():
        assert found[name].dtype == tensor.dtype
        assert torch.equal(found[name], tensor)


@given(st.dictionaries(NAMES, st.builds(tensor_of, st.sampled_from([torch.float32]), SHAPES), min_size=1, max_size=6))
def test_the_same_bytes_as_safetensors(tmp_path_factory: pytest.TempPathFactory, tensors: dict[str, Tensor]) -> None:
    folder = tmp_path_factory.mktemp("files")
    write_tensors(folder / "ours", tensors)
    save_file(tensors, folder / "theirs", metadata={"format": "pt"})
    assert (folder / "ours").read_bytes() == (folder / "theirs").read_bytes()


def test_views_and_parameters(tmp_path: Path) -> None:
    whole = torch.arange(12.0).view(3, 4)
    tensors = {"transposed": whole.t(), "expanded": whole[0].expand(2, 4), "weight": torch.nn.Parameter(whole)}
    write_tensors(tmp_path / "x", tensors)
    found = load_file(tmp_path / "x")
    assert all(torch.equal(found[name], t) for name, t in tensors.items())


def test_fingerprint(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tensor_file, "_CHUNK", 7)
    tensors = {"b": torch.rand(5), "a": torch.rand(2, 3, dtype=torch.float64)}
    assert file_order((n, t.dtype) for n, t in tensors.items()) == ["a", "b"]
    with TensorFile(tmp_path / "x", {n: (tensors[n].dtype, tensors[n].shape) for n in "ab"}) as file:
        for name in "ab":
            file.write(tensors[name])
    data = (tmp_path / "x").read_bytes()
    assert file.fingerprint == (len(data), hashlib.sha256(data).hexdigest())
    assert torch.equal(load_file(tmp_path / "x")["b"], tensors["b"])


@pytest.mark.parametrize("room", [5, 4000, 70_000])
def test_full_disk(room: int, tmp_path: Path) -> None:
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (room, before[1]))
    try:
        with pytest.raises(OSError, match="File too large"):
            write_tensors(tmp_path / "x", {"a": torch.zeros(1000), "b": torch.zeros(20_000)})
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
