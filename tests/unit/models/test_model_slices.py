"""The parts of two tensor ranks, put together, are the one-process model of the same seed."""

from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
import torch.distributed as dist

from hyena_dist.config.model import ModelConfig
from hyena_dist.errors import UserError
from hyena_dist.models.lm import HyenaDNA
from hyena_dist.models.published import load_weights
from hyena_dist.parallel.mesh import Mesh
from hyena_dist.parallel.tensor_shards import partitions


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
    """Start torch.distributed: megatron-core asks a group for its size only while that is up."""
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
    held, sliced = partitions(HyenaDNA(config)), 0
    for name, expected in whole.items():
        sliced += first[name].numel() < expected.numel()
        assert torch.equal(joined(name, first[name], second[name], order), expected), name
        assert (name in held) == (first[name].numel() < expected.numel()), name
        if name in held:
            assert torch.equal(held[name].join([first[name], second[name]]), expected), name
    # Per layer: in_proj 2, short_filter 2, D, last filter rows, deltas, out_proj, fc1 2, fc2; and the embedding.
    assert sliced == 2 * 11 + 1


@pytest.mark.parametrize("order", [2, 3])
def test_a_rank_loads_its_part_of_whole_weights(order: int) -> None:
    config = ModelConfig(d_model=8, l_max=32, order=order)
    torch.manual_seed(3)
    whole = HyenaDNA(config).state_dict()
    states = []
    for rank in range(2):
        model = HyenaDNA(config, Mesh(tensor=Group(rank)))  # of another seed
        load_weights(model, whole, Path("file"))
        states.append(model.state_dict())
        name = "backbone.layers.0.mlp.fc2.weight"
        with pytest.raises(UserError, match=r"fc2\.weight has shape \(8, 16\) where the config says \(8, 32\)"):
            load_weights(model, whole | {name: whole[name][:, :16]}, Path("file"))
    for name, expected in whole.items():
        assert torch.equal(joined(name, states[0][name], states[1][name], order), expected), name


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
