"""What each of two tensor ranks holds, put together, is the one-process model of the same seed."""

from collections.abc import Iterator

import pytest
import torch
import torch.distributed as dist

from hyena_dist.config import ModelConfig
from hyena_dist.models.lm import HyenaDNA
from hyena_dist.parallel.mesh import Mesh


class Group:
    """Rank `rank` of two, as far as constructing a model asks."""

    def __init__(self, rank: int) -> None:
        self._rank = rank

    def size(self) -> int:
        return 2

    def rank(self) -> int:
        return self._rank


@pytest.fixture(autouse=True)
def _distributed() -> Iterator[None]:
    """megatron-core asks a group for its size only while torch.distributed is up."""
    dist.init_process_group("gloo", store=dist.HashStore(), rank=0, world_size=1)
    yield
    dist.destroy_process_group()


def joined(name: str, first: torch.Tensor, second: torch.Tensor, order: int) -> torch.Tensor:
    """The whole tensor. Ranks hold the same channels of each block, so blocks interleave the ranks' parts."""
    blocks = {
        "in_proj": order + 1,
        "short_filter": order + 1,
        "filter_fn.bias": order - 1,
        "implicit_filter.6": order - 1,
    }
    for part, n in blocks.items():
        if part in name:
            halves = [half.view(n, -1, *half.shape[1:]) for half in (first, second)]
            return torch.cat(halves, dim=1).flatten(0, 1)
    if "deltas" in name:
        return torch.cat([half.view(order - 1, -1) for half in (first, second)], dim=1).view(1, 1, -1)
    if name.endswith(("out_proj.weight", "fc2.weight")):
        return torch.cat((first, second), dim=1)
    if "fc1" in name or "word_embeddings" in name:
        return torch.cat((first, second))
    assert torch.equal(first, second), f"{name} differs between ranks"
    return first


@pytest.mark.parametrize("order", [2, 3])
def test_slices_make_the_whole(order: int) -> None:
    config = ModelConfig(d_model=8, l_max=32, order=order)
    states = []
    for mesh in (Mesh(), Mesh(tensor=Group(0)), Mesh(tensor=Group(1))):
        torch.manual_seed(3)
        states.append(HyenaDNA(config, mesh).state_dict())
    whole, first, second = states
    assert list(whole) == list(first) == list(second)
    sliced = 0
    for name, expected in whole.items():
        sliced += first[name].numel() < expected.numel()
        assert torch.equal(joined(name, first[name], second[name], order), expected), name
    # Per layer: in_proj 2, short_filter 2, D, last filter rows, deltas, out_proj, fc1 2, fc2; and the embedding.
    assert sliced == 2 * 11 + 1


@pytest.mark.filterwarnings("ignore:When using async grad allreduce")
@pytest.mark.parametrize("order", [2, 3])
def test_each_rank_evaluates_the_filters_of_its_channels(order: int) -> None:
    config = ModelConfig(d_model=8, l_max=32, order=order)
    kernels = []
    for mesh in (Mesh(), Mesh(tensor=Group(0)), Mesh(tensor=Group(1))):
        torch.manual_seed(3)
        with torch.no_grad():
            kernels.append(HyenaDNA(config, mesh).backbone.layers[0].mixer.filter_fn(20))
    torch.testing.assert_close(torch.cat(kernels[1:], dim=1), kernels[0])
