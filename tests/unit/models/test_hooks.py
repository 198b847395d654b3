"""Hooks and adapters on the layers whose work one operator does: it steps aside, and results stay what they are."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from hyena_dist import HyenaDNA, ModelConfig
from hyena_dist.parallel.linear import Norm
from hyena_dist.parallel.plain import is_plain

IDS = torch.randint(7, 11, (2, 24), generator=torch.Generator().manual_seed(0))
LAYERS = ("norm1", "norm2", "mixer", "mixer.in_proj", "mixer.out_proj", "mixer.filter_fn", "mlp", "mlp.fc1", "mlp.fc2")


def model() -> HyenaDNA:
    torch.manual_seed(0)
    config = ModelConfig(
        d_model=8, n_layer=2, l_max=64, filter_order=16, order=3, embed_dropout=0, initializer_range=0.3
    )
    return HyenaDNA(config).double()


def loss(model: HyenaDNA) -> Tensor:
    found = model(IDS, IDS.roll(-1, 1), skip_logits=True).nll_sum
    assert found is not None
    return found


@pytest.mark.parametrize("layer", LAYERS)
def test_a_hook_is_called_and_changes_nothing(layer: str) -> None:
    exact, hooked = model(), model()
    seen: list[Tensor] = []
    handle = hooked.backbone.layers[1].get_submodule(layer).register_forward_hook(lambda *call: seen.append(call[2]))
    wanted = torch.autograd.grad(loss(exact), list(exact.parameters()))
    found = torch.autograd.grad(loss(hooked), list(hooked.parameters()))
    assert len(seen) == 1
    for a, b in zip(found, wanted, strict=True):
        assert (a - b).abs().max() <= 1e-11 * b.abs().max()
    handle.remove()
    loss(hooked)
    assert len(seen) == 1


@pytest.mark.parametrize("layer", ["norm1", "mixer.in_proj", "mixer.out_proj", "norm2", "mlp.fc1", "mlp.fc2"])
def test_a_hook_that_changes_an_output_changes_the_model(layer: str) -> None:
    hooked = model()
    before = loss(hooked)
    hooked.backbone.layers[0].get_submodule(layer).register_forward_hook(lambda *call: 2 * call[2])
    assert (loss(hooked) - before).abs() > 1e-3


def test_another_layer_in_the_place_of_one_is_called() -> None:
    """A wrapper has the weight of what it wraps, as adapters have, and changes its output."""

    class Wrapper(nn.Module):
        def __init__(self, base: nn.Module) -> None:
            super().__init__()
            self.base = base

        weight = property(lambda self: self.base.weight)
        bias = property(lambda self: self.base.bias)

        def forward(self, x: Tensor) -> Tensor:
            y: Tensor = self.base(x)
            return 2 * y

    for part, name in (("mixer", "in_proj"), ("mixer", "out_proj"), ("mlp", "fc1"), ("mlp", "fc2")):
        changed = model()
        parent = changed.backbone.layers[0].get_submodule(part)
        before = loss(changed)
        setattr(parent, name, Wrapper(getattr(parent, name)))
        assert (loss(changed) - before).abs() > 1e-6


REGISTER: dict[str, Callable[[nn.Module], Any]] = {
    "forward": lambda layer: layer.register_forward_hook(lambda *call: None),
    "forward pre": lambda layer: layer.register_forward_pre_hook(lambda *call: None),
    "backward": lambda layer: layer.register_full_backward_hook(lambda *call: None),
    "backward pre": lambda layer: layer.register_full_backward_pre_hook(lambda *call: None),
}


@pytest.mark.parametrize("register", REGISTER.values(), ids=REGISTER)
def test_each_kind_of_hook_is_noticed(register: Callable[[nn.Module], Any]) -> None:
    layer = model().backbone.layers[0].mixer.in_proj
    assert is_plain(layer)
    handle = register(layer)
    assert not is_plain(layer)
    handle.remove()
    assert is_plain(layer)


def test_what_replaces_forward_is_noticed_and_deepspeed_is_not_in_the_way() -> None:
    layer = nn.Linear(2, 2)
    layer.forward = lambda x: x  # as accelerate's hooks do it
    assert not is_plain(layer)
    assert is_plain(Norm(4, eps=1e-5, mesh=model().mesh))

    def gather(*call: Any) -> None:
        """Stand for ZeRO-3's hook, which gathers parameters that are used in other ways too."""

    gather.__module__ = "deepspeed.runtime.zero.parameter_offload"
    gathered = nn.Linear(2, 2)
    gathered.register_forward_pre_hook(gather)
    assert is_plain(gathered)
