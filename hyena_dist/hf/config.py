"""The configuration of a HyenaDNA model as transformers has it: the keys of the published -hf port, and a few more."""

from typing import Any

from transformers import PreTrainedConfig

from hyena_dist.config.model import ModelConfig
from hyena_dist.errors import UserError
from hyena_dist.hf.registration import register_models
from hyena_dist.models.published_config import PUBLISHED_SHIFT, model_config, write_fields

POOLINGS = ("mean", "last", "first", "max")


class HyenaDNAConfig(PreTrainedConfig):
    """The architecture under the -hf port's names; defaults are the port's.

    What the port has not: `shift` of the filters' decay, which is 0.05 in the port's code and 0.0 in models of this
    project unless a run says otherwise; `pooling` (mean, last, first or max over the tokens that the attention mask
    keeps), by which sequence classification sums a sequence up; `layer_pattern`, `num_attention_heads` and
    `rotary_base` of models with attention layers.

    Raises:
        UserError: a pooling that is not built.
    """

    model_type = "hyenadna"
    attribute_map = {  # noqa: RUF012
        "hidden_size": "d_model",
        "intermediate_size": "d_inner",
        "num_hidden_layers": "n_layer",
        "max_position_embeddings": "max_seq_len",
    }

    def __init__(
        self,
        vocab_size: int = 12,
        d_model: int = 256,
        d_inner: int | None = None,
        use_bias: bool = True,
        train_freq: bool = True,
        max_seq_len: int = 1024,
        emb_dim: int = 3,
        n_layer: int = 12,
        num_inner_mlps: int = 2,
        hyena_order: int = 2,
        short_filter_order: int = 3,
        filter_order: int = 64,
        activation_freq: float = 1,
        embed_dropout: float = 0.1,
        hyena_dropout: float = 0.0,
        hyena_filter_dropout: float = 0.0,
        layer_norm_epsilon: float = 1e-5,
        initializer_range: float = 0.02,
        pad_vocab_size_multiple: int = 8,
        shift: float = PUBLISHED_SHIFT,
        pooling: str = "mean",
        pad_token_id: int | None = 4,
        tie_word_embeddings: bool = False,
        **kwargs: Any,
    ) -> None:
        if pooling not in POOLINGS:
            raise UserError(f"pooling {pooling!r} is not built; choose one of {', '.join(POOLINGS)}")
        self.vocab_size = vocab_size
        self.d_model = d_model
        self.d_inner = 4 * d_model if d_inner is None else d_inner
        self.use_bias = use_bias
        self.train_freq = train_freq
        self.max_seq_len = max_seq_len
        self.emb_dim = emb_dim
        self.n_layer = n_layer
        self.num_inner_mlps = num_inner_mlps
        self.hyena_order = hyena_order
        self.short_filter_order = short_filter_order
        self.filter_order = filter_order
        self.activation_freq = activation_freq
        self.embed_dropout = embed_dropout
        self.hyena_dropout = hyena_dropout
        self.hyena_filter_dropout = hyena_filter_dropout
        self.layer_norm_epsilon = layer_norm_epsilon
        self.initializer_range = initializer_range
        self.pad_vocab_size_multiple = pad_vocab_size_multiple
        self.shift = shift
        self.pooling = pooling
        register_models()
        kwargs |= {"pad_token_id": pad_token_id, "tie_word_embeddings": tie_word_embeddings}
        super().__init__(**kwargs)

    @property
    def architecture(self) -> ModelConfig:
        """The architecture under the names of this project.

        Raises:
            UserError: an option that is not built, or a value that does not fit.
        """
        return model_config(self.to_dict() | {"tie_embeddings": bool(self.tie_word_embeddings)})

    @classmethod
    def from_architecture(cls, architecture: ModelConfig, **kwargs: Any) -> "HyenaDNAConfig":
        """Return the configuration of an architecture that has the names of this project."""
        fields = write_fields(architecture, cls().to_dict())
        fields["tie_word_embeddings"] = fields.pop("tie_embeddings", True)
        return cls(**(fields | kwargs))
