"""ModelConfig: the architecture, and every size derived from it. The inside of the model has HyenaDNA's names."""

from pydantic import Field, model_validator

from hyena_dist.config.divisibility import nearest
from hyena_dist.config.section import Section


class ModelConfig(Section):
    """The architecture: HyenaDNA's fields under HyenaDNA's names (facts of the published config.json)."""

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
    embed_dropout: float = Field(0.1, ge=0, lt=1)
    resid_dropout: float = Field(0.0, ge=0, lt=1)
    layer_norm_epsilon: float = Field(1e-5, gt=0)
    initializer_range: float = Field(0.02, ge=0)
    layer_pattern: str | None = Field(
        None, pattern="^[HA]+$", description="mixer of each layer, H Hyena or A attention; all H if not given"
    )
    num_attention_heads: int | None = Field(None, gt=0, description="of A layers; d_model / 64 if not given")
    rotary_base: float = Field(10_000.0, gt=0, description="of A layers")

    @model_validator(mode="after")
    def _layers_fit(self) -> "ModelConfig":
        if len(self.mixers) != self.n_layer:
            raise ValueError(
                f"layer_pattern {self.layer_pattern} names {len(self.mixers)} layers, n_layer is {self.n_layer}; "
                f"set n_layer={len(self.mixers)} or give {self.n_layer} letters"
            )
        heads = self.attention_heads
        if "A" in self.mixers and self.d_model % (2 * heads):
            fits = nearest(heads, [n for n in range(1, self.d_model // 2 + 1) if self.d_model % (2 * n) == 0])
            wider = f"d_model {-(-self.d_model // (2 * heads)) * 2 * heads} with num_attention_heads {heads}"
            raise ValueError(
                f"d_model {self.d_model} does not split into {heads} attention heads of an even size (rotary positions "
                f"come in pairs); " + (f"try num_attention_heads {fits}" if fits else f"try {wider}")
            )
        return self

    @model_validator(mode="after")
    def _odd_features(self) -> "ModelConfig":
        if self.emb_dim % 2 == 0:
            raise ValueError(f"emb_dim {self.emb_dim} must be odd (1 + 2 x bands); try {self.emb_dim + 1}")
        return self

    @property
    def inner_size(self) -> int:
        """Width of the MLP."""
        return self.d_inner or 4 * self.d_model

    @property
    def mixers(self) -> str:
        """One letter a layer."""
        return self.layer_pattern or "H" * self.n_layer

    @property
    def attention_heads(self) -> int:
        """Heads of an attention layer."""
        return self.num_attention_heads or max(1, self.d_model // 64)

    @property
    def padded_vocab_size(self) -> int:
        """Rows of the embedding: vocab_size rounded up to a multiple of pad_vocab_size_multiple."""
        m = self.pad_vocab_size_multiple
        return -(-self.vocab_size // m) * m

    @property
    def num_parameters(self) -> int:
        """Trainable parameters of the whole model, the tied head counted once."""
        d, n, w, inner = self.d_model, self.order, self.filter_order, self.inner_size
        network = (self.emb_dim + 1) * w + self.num_inner_mlps * (w + 1) * w + w + w * (n - 1) * d
        hyena = (n + 1) * d * (d + 1 + self.short_filter_order + 1) + network + (n - 1) * d + d * (d + 1)
        attention = 4 * d * (d + 1)
        mixers = self.mixers.count("H") * hyena + self.mixers.count("A") * attention
        mlp = (d + 1) * inner + (inner + 1) * d
        return self.padded_vocab_size * d + mixers + self.n_layer * (mlp + 4 * d) + 2 * d
