"""A soft prompt: embeddings that are tuned before a sequence, where the model that reads them stays as it is.

Shapes: B contexts, S positions of this context rank, n soft tokens, D d_model.
"""

from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn

from hyena_dist.data.tokenizer import BASES
from hyena_dist.models.dropout import Dropout
from hyena_dist.models.lm import HyenaDNA, LMOutput
from hyena_dist.models.token_ids import look_up
from hyena_dist.parallel.mesh import Mesh


class SoftPrompt(nn.Module):
    """A language model behind n tuned embeddings, called as the model itself is.

    The model is no submodule: the prompt is all that an optimizer, ZeRO or a checkpoint see.

    Args:
        model: the model, which is frozen and drops nothing from now on.
        tokens: n.
        dropout: the share of the prompt's values that training drops.
        average: the decay of the average over steps, by which the prompt is evaluated; 0 for the last prompt.
    """

    average: Tensor

    def __init__(self, model: HyenaDNA, tokens: int, dropout: float = 0.0, average: float = 0.0) -> None:
        super().__init__()
        self._frozen = (model.requires_grad_(False).eval(),)
        embedding = model.backbone.embeddings.word_embeddings
        bases = torch.randint(BASES[0], BASES[-1] + 1, (1, tokens))
        with torch.no_grad():
            start = look_up(embedding, bases.to(embedding.weight.device))[
                :, 0
            ].clone()  # as a random sequence, to begin with
        self.prompt_embeddings = nn.Parameter(start)
        """The prompt, [n, D]; it is named as what does not decay."""
        self.register_buffer("average", start.clone())
        self.dropout = Dropout(dropout, 0, model.mesh)
        self.decay = average
        self.begins_step = False
        """Whether the next pass is the first since the prompt changed, so that the average takes it in."""

    @property
    def model(self) -> HyenaDNA:
        """The frozen model."""
        return self._frozen[0]

    @property
    def mesh(self) -> Mesh:
        """This rank's groups."""
        return self.model.mesh

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> "SoftPrompt":
        self.model._apply(fn, recurse)
        return super()._apply(fn, recurse)

    def forward(
        self,
        inputs: Tensor,
        targets: Tensor | None = None,
        dropout_seeds: Sequence[int] | Tensor | None = None,
        skip_logits: bool = False,
    ) -> LMOutput:
        """Return what the model makes of the inputs, whose first n tokens the prompt replaces.

        Args:
            inputs: [B, S] token ids, this context rank's chunk of contexts.
            targets: [B, S], as HyenaDNA.forward takes them.
            dropout_seeds: B numbers that determine what is dropped of the prompt.
            skip_logits: give the loss alone, as HyenaDNA.forward does.
        """
        first = self.mesh.context.rank() * inputs.shape[1]
        mine = self._prompt()[first : first + inputs.shape[1]]
        embedded = look_up(self.model.backbone.embeddings.word_embeddings, inputs)  # [S, B, D]
        prompt = mine[:, None].expand(-1, inputs.shape[0], -1)
        embedded = torch.cat([prompt, embedded[len(mine) :]])
        dropped = self.dropout(embedded, dropout_seeds)
        embedded = torch.cat([dropped[: len(mine)], embedded[len(mine) :]])
        output: LMOutput = self.model(embedded.transpose(0, 1), targets, skip_logits=skip_logits)
        return output

    def _prompt(self) -> Tensor:
        """Return the prompt that is trained, or its average over steps."""
        if not self.training:
            return torch.lerp(self.prompt_embeddings, self.average, self.decay)
        if self.begins_step:
            self.begins_step = False
            self.average.lerp_(self.prompt_embeddings.detach(), 1 - self.decay)
        return self.prompt_embeddings

    def recompute_activations(self, recompute: bool) -> None:
        """Let the backward pass compute the layers' activations again, or keep them."""
        backbone = self.model.backbone
        backbone.activation_checkpointing = recompute
        backbone.training = recompute  # it alone: dropout below it stays off
