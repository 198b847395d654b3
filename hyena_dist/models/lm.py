"""The language model: embedding -> blocks -> norm -> tied head. Module names are those of the published checkpoints.

Shapes: B batch, L length, D d_model, V padded vocabulary.
"""

from pathlib import Path
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from hyena_dist.config import ModelConfig
from hyena_dist.models.block import Block
from hyena_dist.parallel.linear import VocabEmbedding, normal, tied_logits
from hyena_dist.parallel.mesh import Mesh


class LMOutput(NamedTuple):
    """What a call of the model returns."""

    logits: Tensor
    """[B, L, V] in the parameters' type; columns from vocab_size on belong to no token."""
    hidden_states: Tensor
    """[B, L, D] after the final norm, in the parameters' type."""
    nll_sum: Tensor | None
    """Sum of the negative log-likelihoods in nats over the counted targets, if targets were given."""


class Embeddings(nn.Module):
    """Token embedding alone: Hyena needs no position embedding."""

    def __init__(self, config: ModelConfig, mesh: Mesh) -> None:
        super().__init__()
        self.word_embeddings = VocabEmbedding(
            config.padded_vocab_size,
            config.d_model,
            mesh=mesh,
            init=normal(config.initializer_range),
        )


class Backbone(nn.Module):
    """Token ids to hidden states."""

    def __init__(self, config: ModelConfig, mesh: Mesh, compute_dtype: torch.dtype) -> None:
        super().__init__()
        self.embeddings = Embeddings(config, mesh)
        self.embed_dropout = nn.Dropout(config.embed_dropout)
        self.layers = nn.ModuleList(Block(config, mesh, compute_dtype) for _ in range(config.n_layer))
        self.ln_f = nn.LayerNorm(config.d_model, eps=config.layer_norm_epsilon)
        self.activation_checkpointing = False

    def forward(self, input_ids: Tensor) -> Tensor:
        """[B, L] -> [L, B, D]."""
        x = self.embed_dropout(self.embeddings.word_embeddings(input_ids.t()))
        for layer in self.layers:
            # A call, not a wrapper module: parameters keep their names whether or not activations are recomputed.
            if self.activation_checkpointing and self.training:
                x = checkpoint(layer, x, use_reentrant=False)
            else:
                x = layer(x)
        hidden: Tensor = self.ln_f(x)
        return hidden


class HyenaDNA(nn.Module):
    """The causal language model.

    Args:
        config: the architecture.
        mesh: process groups; one process if not given, without torch.distributed.
        compute_dtype: type of activations and matrix products; parameters, filters and losses keep the default type.
    """

    def __init__(self, config: ModelConfig, mesh: Mesh | None = None, compute_dtype: torch.dtype | None = None) -> None:
        super().__init__()
        self.config = config
        self.published_fields: dict[str, Any] | None = None
        """The config.json this model was loaded from, written back by save_published."""
        self.compute_dtype = compute_dtype or torch.get_default_dtype()
        self.backbone = Backbone(config, mesh or Mesh(), self.compute_dtype)

    def double(self) -> "HyenaDNA":
        """Everything in float64, activations included: for reference values."""
        for module in self.modules():
            if isinstance(module, HyenaDNA | Block):
                module.compute_dtype = torch.float64
        return super().double()

    def forward(self, input_ids: Tensor, targets: Tensor | None = None) -> LMOutput:
        """Logits, hidden states and, with targets, the summed loss.

        Args:
            input_ids: [B, L] int64 token ids.
            targets: [B, L] int64, the token that follows each input, already shifted (a context-parallel chunk cannot
                shift across its border); -100, torch's ignore_index, where nothing is to be predicted. Padded
                vocabulary columns take no probability in the loss.
        """
        hidden = self.backbone(input_ids)
        weight = self.backbone.embeddings.word_embeddings.weight
        logits = tied_logits(hidden.to(self.compute_dtype), weight).to(hidden.dtype)
        nll_sum = None
        if targets is not None:
            real = logits[..., : self.config.vocab_size].flatten(0, 1)
            nll_sum = F.cross_entropy(real, targets.t().flatten(), reduction="sum")
        return LMOutput(logits.transpose(0, 1), hidden.transpose(0, 1), nll_sum)

    def save_published(self, directory: str | Path) -> None:
        """Write config.json and weights.ckpt as the published models have them."""
        from hyena_dist.models.published import save_published  # the reader builds this class

        save_published(self, directory)

    def num_parameters(self) -> int:
        """Trainable parameters, the tied head counted once."""
        return sum(p.numel() for p in self.parameters())
