"""Log-likelihoods of the windows around variants, by the faster of two ways that give the same."""

from collections.abc import Iterator, Sequence
from itertools import chain

import numpy as np
from numpy.typing import NDArray

from hyena_dist.inference.likelihoods import log_likelihoods
from hyena_dist.inference.shared_prefix import SharedPrefix
from hyena_dist.inference.variant_windows import VariantWindow, WindowShape
from hyena_dist.models.block import MLP
from hyena_dist.models.lm import HyenaDNA
from hyena_dist.models.mixers.hyena import HyenaMixer

PAYS_FROM = 0.4
"""The share of a window before a variant from which on it pays on a CPU to compute that once (`bench variants`)."""
AT_ONCE = 2**20
"""Numbers of a batch's residual stream with shared prefixes: more leave a CPU's caches."""


class WindowLikelihoods:
    """A function that computes the log-likelihoods of windows, batch by batch.

    Args:
        model: in evaluation mode and in one process.
        shape: that of the windows.
        max_tokens: bound for windows times bases of a batch of several.
    """

    def __init__(self, model: HyenaDNA, shape: WindowShape, max_tokens: int) -> None:
        self.model = model
        self.shape = shape
        self.max_tokens = max_tokens
        prefix = shape.before(shape.length)
        self.shared = SharedPrefix(model, shape.length, prefix) if _pays(model, shape, prefix) else None
        """None where whole forward passes are faster: on GPUs, whose kernels for them are fused."""

    def __call__(self, windows: Sequence[VariantWindow]) -> list[NDArray[np.float64]]:
        """Return the sums of the log-likelihoods of each window's scored bases, in nats, float64 [1 + A] each."""
        alike = [self._is_shared(window) for window in windows]
        with_prefix = (window for window, is_shared in zip(windows, alike, strict=True) if is_shared)
        others = [window for window, is_shared in zip(windows, alike, strict=True) if not is_shared]
        found = iter(chain.from_iterable(map(self._with_prefix, self._batches(with_prefix))))
        whole = iter(log_likelihoods(self.model, others, self.max_tokens))
        return [next(found) if is_shared else next(whole) for is_shared in alike]

    def _is_shared(self, window: VariantWindow) -> bool:
        """Return whether a window is of the usual length and has its variant where the usual one has it."""
        shared = self.shared
        return shared is not None and window.tokens.shape[1] == self.shape.length and window.shared >= shared.prefix

    def _with_prefix(self, windows: list[VariantWindow]) -> list[NDArray[np.float64]]:
        assert self.shared is not None
        return self.shared.log_likelihoods(windows)

    def _batches(self, windows: Iterator[VariantWindow]) -> Iterator[list[VariantWindow]]:
        most = min(self.max_tokens, AT_ONCE // self.model.config.d_model)
        batch: list[VariantWindow] = []
        for window in windows:
            if batch and sum(each.tokens.size for each in (*batch, window)) > most:
                yield batch
                batch = []
            batch.append(window)
        if batch:
            yield batch


def _pays(model: HyenaDNA, shape: WindowShape, prefix: int) -> bool:
    config = model.config
    on_cpu = model.backbone.ln_f.weight.device.type == "cpu"
    is_long = prefix >= max(PAYS_FROM * shape.length, config.short_filter_order)
    # What adds the residual itself is one operator in one process, whose modules nobody has wrapped or replaced.
    parts = (module for module in model.modules() if isinstance(module, HyenaMixer | MLP))
    plain = all(part.adds_residual for part in parts)
    return on_cpu and is_long and plain and set(config.mixers) == {"H"}
