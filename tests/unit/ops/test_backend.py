"""The implementation that operators take, what decides it, and what people are told."""

import pytest
import torch

from hyena_dist import UserError
from hyena_dist.ops import backend
from hyena_dist.ops.backend import backend_of, explain
from hyena_dist.parallel.world import check_backend

CPU, META, CUDA = (torch.device(kind) for kind in ("cpu", "meta", "cuda"))


@pytest.fixture(autouse=True)
def a_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing is asked for, and torch names a GPU."""
    monkeypatch.delenv(backend.VARIABLE, raising=False)
    monkeypatch.delenv("TRITON_INTERPRET", raising=False)
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda device: "A GPU")
    backend._failure.cache_clear()


def test_without_a_gpu() -> None:
    assert [backend_of(CPU), backend_of(META)] == ["torch", "torch"]
    assert explain(CPU) == "torch's operators, as there is no GPU"
    check_backend(CPU)


@pytest.mark.parametrize("name", ["torch", "triton"])
def test_the_environment_decides(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(backend.VARIABLE, name)
    assert {backend_of(device) for device in (CPU, META, CUDA)} == {name}
    assert explain(CUDA).endswith("as HYENA_DIST_BACKEND says")


def test_a_gpu_takes_kernels_that_build(monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("triton")
    monkeypatch.setattr("hyena_dist.ops.triton.launch.try_out", lambda: None)
    assert backend_of(CUDA) == "triton"
    assert explain(CUDA) == "Triton's kernels, built for A GPU"


def test_a_gpu_without_kernels_says_so_once(monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("triton")

    def fail() -> None:
        raise RuntimeError("no compiler\nand more")

    monkeypatch.setattr("hyena_dist.ops.triton.launch.try_out", fail)
    with pytest.warns(UserWarning, match="cannot build kernels for A GPU") as said:
        assert [backend_of(CUDA), backend_of(CUDA)] == ["torch", "torch"]
    assert len(said) == 1
    assert explain(CUDA) == "torch's operators, as Triton cannot build kernels for A GPU (no compiler)"


def test_an_unknown_one_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(backend.VARIABLE, "cuda")
    with pytest.raises(ValueError, match="'cuda' is no backend; choose auto, torch or triton"):
        backend_of(CPU)
    with pytest.raises(UserError, match="'cuda' is no backend"):
        check_backend(CPU)


def test_kernels_without_a_gpu_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(backend.VARIABLE, "triton")
    with pytest.raises(UserError, match="triton needs a GPU, and this process has none; unset it"):
        check_backend(CPU)
    monkeypatch.setenv("TRITON_INTERPRET", "1")
    check_backend(CPU)
