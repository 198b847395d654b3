"""A model that holds live process groups can be copied, pickled and cast, or says why not."""

import copy
import pickle

import pytest
import torch

from hyena_dist.errors import UserError
from hyena_dist.models.megatron import MixerAsAttention, transformer_config
from hyena_dist.parallel.mesh import Mesh
from tests.distributed.parity import Layout, build, chunk, data, gathered
from tests.distributed.test_megatron_spec import CONFIGS, start
from tests.processes import run_ranks


def whole_models() -> tuple[bool, bool]:
    """Tell whether a copy computes the same over the context ranks, and what is unpickled the same in one process."""
    mesh = start(Layout(context=2))
    model = build(CONFIGS[2], mesh).eval()
    inputs, _ = data(2, 24)
    mine = chunk(inputs, mesh)
    part = model(mine).logits
    copied = copy.deepcopy(model)
    alone = pickle.loads(pickle.dumps(model))
    same = torch.allclose(chunk(alone(inputs).logits, mesh), part, atol=1e-6)
    return torch.equal(copied(mine).logits, part), same


def test_context_ranks_hold_whole_models() -> None:
    assert run_ranks(2, whole_models) == [(True, True)] * 2


def shared_models() -> list[str]:
    mesh = start(Layout(tensor=2))
    model = build(CONFIGS[0], mesh)
    said = []
    for action in (copy.deepcopy, pickle.dumps):
        for part in (model, model.backbone.layers[0].mixer, model.backbone.layers[0].mlp.fc1):
            with pytest.raises(UserError) as caught:
                action(part)
            said.append(str(caught.value))
    return said


def test_parts_of_tensor_ranks_are_refused() -> None:
    for said in run_ranks(2, shared_models):
        assert set(said) == {
            f"a model that 2 tensor ranks share cannot be {done} on one of them; build another of the same layout and "
            f"load its state_dict"
            for done in ("copied", "pickled")
        }
        assert len(said) == 6


def cast_models(layout: Layout) -> list[float]:
    """Return errors of logits and losses of cast models with uint8 ids, in roundings of their type."""
    mesh = start(layout)
    inputs, targets = (tokens.clamp(min=0) for tokens in data(2, 24))
    errors = []
    for dtype in (torch.bfloat16, torch.float16, torch.float32):
        for config in CONFIGS:
            exact = build(config, Mesh())(inputs, targets)
            out = build(config, mesh).to(dtype)(chunk(inputs, mesh).byte(), chunk(targets, mesh).byte())
            assert (out.logits.dtype, out.nll.dtype) == (dtype, torch.float32)
            logits = torch.cat(gathered(out.logits, mesh.tensor), dim=-1)
            for found, wanted in ((logits, exact.logits), (out.nll, exact.nll)):
                difference = (found.double() - chunk(wanted, mesh)).abs().max() / wanted.abs().max()
                errors.append(difference.item() / torch.finfo(dtype).eps)
    return errors


@pytest.mark.parametrize("layout", [Layout(tensor=2), Layout(tensor=2, sequence_parallel=True), Layout(context=2)])
def test_casts_over_ranks(layout: Layout) -> None:
    for errors in run_ranks(2, cast_models, layout):
        assert max(errors) < 8


def megatron_layers() -> list[bool]:
    mesh = start(Layout())
    found = []
    for letter in "HA":
        mixer = MixerAsAttention(transformer_config(CONFIGS[2]), 1, CONFIGS[2], letter).eval()
        x = torch.randn(24, 2, 16)
        y = mixer(x)[0]
        found += [torch.equal(made(x)[0], y) for made in (copy.deepcopy(mixer), pickle.loads(pickle.dumps(mixer)))]
    assert mesh.tensor.size() == 1
    return found


def test_mixers_of_megatron() -> None:
    """Megatron's own layers around them hold its groups, and are copied by their state dicts."""
    assert run_ranks(1, megatron_layers) == [[True] * 4]
