"""Cutting tensors for tensor ranks and putting them together again."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from hyena_dist.config.model import ModelConfig
from hyena_dist.models.lm import HyenaDNA
from hyena_dist.parallel.mesh import Mesh
from hyena_dist.parallel.tensor_shards import Partition, local_part, part_of, partitions


@given(
    other=st.integers(1, 3), dim=st.sampled_from([0, 1, -1]), blocks=st.integers(1, 4), size=st.integers(1, 4),
    rows=st.integers(1, 3),
)  # fmt: skip
def test_parts_make_the_whole(other: int, dim: int, blocks: int, size: int, rows: int) -> None:
    shape = [other, other]
    shape[dim] = blocks * size * rows
    whole = torch.randn(shape)
    partition = Partition(dim, blocks)
    parts = [partition.slice(whole, rank, size) for rank in range(size)]
    assert torch.equal(partition.join(parts), whole)
    for rank, part in enumerate(parts):
        assert partition.whole_shape(part.shape, size) == whole.shape
        # Every block is there, and of each the same rows.
        mine = whole.movedim(dim, 0).view(blocks, size, rows, other)[:, rank]
        assert torch.equal(part.movedim(dim, 0).reshape(mine.shape), mine)


@pytest.mark.parametrize("partition", [None, Partition(0), Partition(-1, 2)])
def test_one_process_holds_everything(partition: Partition | None) -> None:
    whole = torch.randn(4, 6)
    assert torch.equal(part_of(whole, partition, Mesh()), whole)


def test_every_partition_names_a_tensor_of_the_model() -> None:
    model = HyenaDNA(ModelConfig(d_model=8, l_max=32, layer_pattern="HA", num_attention_heads=2))
    held = partitions(model)
    assert held.keys() <= model.state_dict().keys()
    marked = {n for n, p in model.named_parameters() if getattr(p, "tensor_model_parallel", False)}
    assert marked == held.keys() & dict(model.named_parameters()).keys(), "DeepSpeed counts norms by the mark"


def test_local_part_is_a_parameter_of_its_own() -> None:
    whole = torch.randn(4)
    part = local_part(whole, Partition(0), Mesh())
    assert isinstance(part, nn.Parameter)
    assert torch.equal(part, whole)
    assert part.data_ptr() != whole.data_ptr()
