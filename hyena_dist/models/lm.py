"""The language model: embedding -> blocks -> norm -> head. Module names are those of the published checkpoints.

Shapes: B batch, D d_model, V padded vocabulary, T tensor ranks, S positions of this context rank (all, with one), R
positions of its residual stream (S, or S / T with sequence parallelism).
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from hyena_dist.config.model import ModelConfig
from hyena_dist.errors import UserError
from hyena_dist.models.block import Block
from hyena_dist.models.dropout import Dropout
from hyena_dist.models.mixers.base import StepConstant
from hyena_dist.models.token_ids import look_up
from hyena_dist.ops import head_nll
from hyena_dist.parallel.linear import (
    Norm,
    VocabEmbedding,
    VocabHead,
    gather_sequence,
    normal,
    vocab_logits,
    vocab_parallel_nll,
)
from hyena_dist.parallel.mesh import Mesh

CASTS = (torch.float64, torch.float32, torch.bfloat16, torch.float16)
"""Types that a model can be cast to."""


class LMOutput(NamedTuple):
    """The results of a call of the model."""

    logits: Tensor | None
    """Logits in the parameters' type, [B, S, V / T]; columns from vocab_size on belong to no token. None if skipped."""
    hidden_states: Tensor | None
    """Hidden states after the final norm in the parameters' type, [B, S, D]. None if skipped."""
    nll: Tensor | None
    """Negative log-likelihood of each target in nats, fp32 or fp64, [B, S], 0 where a target is ignored and the same on
    every tensor rank; None without targets."""

    @property
    def nll_sum(self) -> Tensor | None:
        """The sum of `nll` over this rank's targets."""
        return None if self.nll is None else self.nll.sum()


def check_cast(dtype: torch.dtype | None) -> None:
    """Refuse a type that a model cannot be cast to.

    Raises:
        UserError: anything but the four common ones.
    """
    if dtype is not None and dtype not in CASTS:
        names = ", ".join(str(known) for known in CASTS)
        raise UserError(f"a model cannot compute in {dtype}, which lacks the operators; choose one of {names}")


class Embeddings(nn.Module):
    """The token embedding alone: Hyena needs no position embedding."""

    def __init__(self, config: ModelConfig, mesh: Mesh) -> None:
        super().__init__()
        self.word_embeddings = VocabEmbedding(
            config.padded_vocab_size,
            config.d_model,
            mesh=mesh,
            init=normal(config.initializer_range),
        )


class Backbone(nn.Module):
    """The embedding and the layers, which turn token ids into hidden states."""

    def __init__(self, config: ModelConfig, mesh: Mesh, compute_dtype: torch.dtype) -> None:
        super().__init__()
        self.embeddings = Embeddings(config, mesh)
        self.embed_dropout = Dropout(config.embed_dropout, 0, mesh)
        self.layers = nn.ModuleList(Block(config, i, mesh, compute_dtype) for i in range(config.n_layer))
        self.ln_f = Norm(config.d_model, eps=config.layer_norm_epsilon, mesh=mesh)
        self.mesh = mesh
        self.activation_checkpointing = False

    def forward(
        self,
        inputs: Tensor,
        dropout_seeds: Sequence[int] | Tensor | None = None,
        states: list[Tensor] | None = None,
    ) -> Tensor:
        """Return the residual stream after the last layer, [R, B, D].

        Args:
            inputs: token ids [B, S], or in one process their embeddings [B, S, D], which are of a floating type.
            dropout_seeds: B numbers that determine what is dropped, or None.
            states: gets the residual stream before each layer, [R, B, D].
        """
        given = inputs.is_floating_point()
        embedded = inputs.transpose(0, 1) if given else look_up(self.embeddings.word_embeddings, inputs)
        x = self.embed_dropout(embedded, dropout_seeds)
        for layer in self.layers:
            if states is not None:
                states.append(x)
            # A call, not a wrapper module: parameters keep their names whether or not activations are recomputed.
            if self.activation_checkpointing and self.training:
                x = checkpoint(layer, x, dropout_seeds, use_reentrant=False)
            else:
                x = layer(x, dropout_seeds)
        return x


class HyenaDNA(nn.Module):
    """The causal language model.

    Args:
        config: the architecture.
        mesh: process groups; one process if not given, without torch.distributed.
        compute_dtype: type of activations and matrix products; parameters, filters and losses keep the default type.

    A cast (`.double()`, `.bfloat16()`, `.half()`, `.to(dtype)`) is one of parameters and activations alike; logits and
    hidden states have its type. Filters are spared by casts to 16 bits: they and FFTs are computed in fp32.
    """

    def __init__(self, config: ModelConfig, mesh: Mesh | None = None, compute_dtype: torch.dtype | None = None) -> None:
        super().__init__()
        self.config = config
        self.published_fields: dict[str, Any] | None = None
        """The config.json this model was loaded from, written back by save_published."""
        self.compute_dtype = compute_dtype or torch.get_default_dtype()
        self.mesh = mesh or Mesh()
        self.backbone = Backbone(config, self.mesh, self.compute_dtype)
        self.lm_head: VocabHead | None = None
        """The head, if it is not tied to the embedding."""
        if not config.tie_embeddings:
            init = normal(config.initializer_range)
            self.lm_head = VocabHead(config.padded_vocab_size, config.d_model, mesh=self.mesh, init=init)

    def to(self, *args: Any, **kwargs: Any) -> "HyenaDNA":
        """Move or cast the model, as `nn.Module.to` does.

        Raises:
            UserError: a type in which it cannot compute.
        """
        check_cast(next((value for value in (*args, *kwargs.values()) if isinstance(value, torch.dtype)), None))
        return super().to(*args, **kwargs)

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> "HyenaDNA":
        before = self.backbone.ln_f.weight.dtype
        super()._apply(fn, recurse)
        if self.backbone.ln_f.weight.dtype != before:
            self.compute_dtype = self.backbone.ln_f.weight.dtype
        return self

    def forward(
        self,
        input_ids: Tensor,
        targets: Tensor | None = None,
        dropout_seeds: Sequence[int] | Tensor | None = None,
        skip_logits: bool = False,
    ) -> LMOutput:
        """Return logits, hidden states and, with targets, the loss of each.

        Args:
            input_ids: [B, S] token ids of any integer type: this context rank's contiguous chunk of the sequences.
            targets: [B, S] likewise, the token that follows each input, already shifted (a context-parallel chunk
                cannot shift across its border); negative (-100, torch's ignore_index) where nothing is to be predicted.
                Padded vocabulary columns take no probability in the loss.
            dropout_seeds: B numbers that determine what is dropped while training; see models/dropout.py.
            skip_logits: give the loss alone, for which neither logits nor hidden states are ever in memory whole where
                one tensor rank has all of them: for training.
        """
        targets = None if targets is None else targets.long()
        x = self.backbone(input_ids, dropout_seeds)
        weight = (self.lm_head or self.backbone.embeddings.word_embeddings).weight
        norm = self.backbone.ln_f
        if skip_logits and targets is not None and self.mesh.tensor.size() == 1:
            in_compute_type = norm.as_op_input()._replace(dtype=self.compute_dtype)
            losses = head_nll(x.transpose(0, 1), in_compute_type, weight, targets, self.config.vocab_size)
            return LMOutput(None, None, losses)
        hidden = gather_sequence(norm(x), self.mesh)
        logits = vocab_logits(hidden.to(self.compute_dtype), weight, self.mesh).to(hidden.dtype)
        nll = None
        if targets is not None:
            in_full = logits.to(torch.promote_types(logits.dtype, torch.float32))
            nll = vocab_parallel_nll(in_full, targets.t(), self.config.vocab_size, self.mesh).t()
        return LMOutput(logits.transpose(0, 1), hidden.transpose(0, 1), nll)

    @contextmanager
    def share_filters(self, micro_batches: int) -> Iterator[None]:
        """Within the block, so many forward passes with gradient evaluate the filters once and use the same parameters.

        The gradients of the filters' parameters come whole with the backward pass of the last, none with those before.
        Passes without gradient are as ever, and so are all with one micro-batch or activation checkpointing: whoever
        recomputes wants memory. Until the last backward pass every layer holds its kernels, (order - 1) * C_r * L
        numbers in fp32, and as many of their gradient. (A layer that recomputes nothing holds its kernels from its
        forward to its backward pass anyway.)

        Args:
            micro_batches: all of one length; each has its backward pass before the next one's forward pass.

        Raises:
            RuntimeError: more or fewer micro-batches than announced.
        """
        shared = micro_batches > 1 and not self.backbone.activation_checkpointing
        filters = [m for m in self.modules() if isinstance(m, StepConstant)] if shared else []
        for filter_fn in filters:
            filter_fn.share(micro_batches)
        try:
            yield
            if any(filter_fn.owes_gradient for filter_fn in filters):
                raise RuntimeError("share_filters: fewer forward passes with gradient than micro-batches announced")
        finally:
            for filter_fn in filters:
                filter_fn.share(1)

    def save_published(self, directory: str | Path) -> None:
        """Write config.json and weights.ckpt as the published models have them."""
        from hyena_dist.models.published import save_published  # the reader builds this class

        save_published(self, directory)

    def num_parameters(self) -> int:
        """Count the trainable parameters, those of a tied head once."""
        return sum(p.numel() for p in self.parameters())
