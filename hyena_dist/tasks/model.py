"""SequenceModel: the backbone of a language model, pooling and a linear head.

Shapes: B batch, D d_model, C classes or targets, S positions of this context rank, R positions of its residual stream.
"""

from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext

import torch
from torch import Tensor, nn

from hyena_dist.models.lm import HyenaDNA
from hyena_dist.parallel.linear import gather_sequence
from hyena_dist.parallel.mesh import Mesh
from hyena_dist.tasks.pooling import Pooling, pooled


class SequenceModel(nn.Module):
    """A model of labels: `backbone.*` has the names of the language model's weights, `head.*` is new.

    Args:
        language_model: gives its backbone, which is shared, not copied.
        outputs: C.
        pooling: what the head sees; None for every position by itself, as labels of bases need.
        frozen: whether the backbone stays as it is: no gradient, and nothing dropped, also in training.
    """

    def __init__(
        self, language_model: HyenaDNA, outputs: int, pooling: Pooling | None, *, frozen: bool = False
    ) -> None:
        super().__init__()
        self.config = language_model.config
        self.mesh: Mesh = language_model.mesh
        self.pooling = pooling
        self.frozen = frozen
        self.backbone = language_model.backbone
        self.backbone.requires_grad_(not frozen)
        self.head = nn.Linear(self.config.d_model, outputs)
        nn.init.normal_(self.head.weight, std=self.config.initializer_range)
        nn.init.zeros_(self.head.bias)

    def train(self, mode: bool = True) -> "SequenceModel":
        """Change the mode, but for a frozen backbone, which stays in evaluation mode."""
        super().train(mode)
        if self.frozen:
            self.backbone.eval()
        return self

    def forward(self, tokens: Tensor, lengths: Tensor, dropout_seeds: Sequence[int] | Tensor | None = None) -> Tensor:
        """Return the outputs of the head, fp32 or fp64: [B, C], the same on every tensor and context rank.

        Without pooling they are those of this context rank's positions, [B, S, C]. Padding changes none of them.

        Args:
            tokens: this context rank's contiguous chunk of sequences that are padded to the right, uint8 [B, S].
            lengths: positions of each whole sequence that are no padding, int64 [B].
            dropout_seeds: B numbers that determine what is dropped while training.
        """
        context: AbstractContextManager[object] = torch.no_grad() if self.frozen else nullcontext()
        with context:
            stream = self.backbone(tokens, dropout_seeds)
            hidden = gather_sequence(self.backbone.ln_f(stream), self.mesh, replicated=True)
        hidden = hidden.to(torch.promote_types(hidden.dtype, torch.float32))
        if self.pooling is None:
            outputs: Tensor = self.head(hidden.transpose(0, 1))
        else:
            outputs = self.head(pooled(hidden, tokens, lengths, self.pooling, self.mesh))
        return outputs
