"""Architecture: the fields of a model, which the records of its mixers read."""

from pydantic import Field, model_validator

from hyena_dist.config.section import Section


class Architecture(Section):
    """The fields of a model: HyenaDNA's under HyenaDNA's names (facts of the published config.json)."""

    d_model: int = Field(128, gt=0)
    n_layer: int = Field(2, gt=0)
    d_inner: int | None = Field(None, gt=0, description="width of the MLP; 4 * d_model if not given")
    l_max: int = Field(1026, gt=1, description="positions of the filter's grid; fixed for the life of a model")
    order: int = Field(2, ge=2, description="Hyena order: order - 1 long convolutions, order gates")
    short_filter_order: int = Field(3, ge=1)
    filter_order: int = Field(64, gt=0, description="width of the filter network")
    num_inner_mlps: int = Field(2, ge=0)
    emb_dim: int = Field(5, ge=3, description="features of a position: t, and cos and sin of (emb_dim - 1) / 2 bands")
    activation_freq: float = Field(10.0, description="initial frequency w of the sine activations")
    modulation_shift: float = Field(
        0.0, description="0.0 in the training repository, 0.05 in the standalone model and the -hf port; stored nowhere"
    )
    vocab_size: int = Field(12, gt=0)
    pad_vocab_size_multiple: int = Field(8, gt=0)
    tie_embeddings: bool = Field(True, description="whether the head is the embedding, as published")
    embed_dropout: float = Field(0.1, ge=0, lt=1)
    resid_dropout: float = Field(0.0, ge=0, lt=1)
    layer_norm_epsilon: float = Field(1e-5, gt=0)
    initializer_range: float = Field(0.02, ge=0)
    layer_pattern: str | None = Field(
        None, min_length=1, description="mixer of each layer by its letter (config/mixers/table.py); Hyena if not given"
    )
    num_attention_heads: int | None = Field(None, gt=0, description="of attention layers; d_model / 64 if not given")
    rotary_base: float = Field(10_000.0, gt=0, description="of attention layers")

    @model_validator(mode="after")
    def _odd_features(self) -> "Architecture":
        if self.emb_dim % 2 == 0:
            raise ValueError(f"emb_dim {self.emb_dim} must be odd (1 + 2 x bands); try {self.emb_dim + 1}")
        return self

    @property
    def inner_size(self) -> int:
        """Width of the MLP."""
        return self.d_inner or 4 * self.d_model

    @property
    def padded_vocab_size(self) -> int:
        """Rows of the embedding: vocab_size rounded up to a multiple of pad_vocab_size_multiple."""
        m = self.pad_vocab_size_multiple
        return -(-self.vocab_size // m) * m
