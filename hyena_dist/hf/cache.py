"""A cache that `generate` hands from token to token, so that each costs one step, not a forward pass over all."""

from typing import TYPE_CHECKING

from torch import Tensor, nn

from hyena_dist.generation.decoder import Decoder
from hyena_dist.hf.native import to_native
from hyena_dist.models.block import MLP, Block
from hyena_dist.models.mixers.hyena import HyenaMixer
from hyena_dist.parallel.plain import is_hooked, is_plain

if TYPE_CHECKING:
    from hyena_dist.hf.causal_lm import HyenaDNAForCausalLM


class DecoderCache:
    """The state of the sequences that a model continues, exact whatever their length.

    It answers what `generate` asks of caches: it cannot be compiled or cut, and holds a state, not keys and values.

    Args:
        model: one that `can_step`.
        max_length: the most tokens of a sequence.
    """

    is_compileable = False
    is_croppable = False
    is_linear = (True,)

    def __init__(self, model: "HyenaDNAForCausalLM", max_length: int) -> None:
        self.model = to_native(model)
        self.max_length = max_length
        self.decoder: Decoder | None = None

    def logits(self, input_ids: Tensor) -> Tensor:
        """Return what follows all tokens so far, of which those of the last call are known: [B, L] -> [B, V]."""
        if self.decoder is None:
            self.decoder = Decoder(self.model, len(input_ids), self.max_length)
            return self.decoder.prefill(input_ids)
        for tokens in input_ids[:, self.decoder.length :].unbind(1):
            found = self.decoder.step(tokens)
        return found

    def get_seq_length(self) -> int:
        """Return the number of tokens so far."""
        return 0 if self.decoder is None else self.decoder.length

    def reorder_cache(self, beam_idx: Tensor) -> None:
        """Go on with these rows of the batch, as a beam search chose them."""
        assert self.decoder is not None
        self.decoder.reorder(beam_idx)


def can_step(model: "HyenaDNAForCausalLM") -> bool:
    """Return whether one token after another gives what the model's layers do.

    Not with attention layers, dropout, adapters, or hooks that want to see calls.
    """
    embedding = model.get_input_embeddings()
    if model.training or any(map(is_hooked, model.modules())) or type(embedding) is not nn.Embedding:
        return False
    return is_plain(model.lm_head) and all(map(_is_plain_layer, model.native_backbone.layers))


def _is_plain_layer(layer: nn.Module) -> bool:
    assert isinstance(layer, Block)
    mixer, mlp = layer.mixer, layer.mlp
    return isinstance(mixer, HyenaMixer) and isinstance(mlp, MLP) and mixer.adds_residual and mlp.adds_residual
