"""ModelConfig: an architecture whose mixers exist and suit it, and its parameters."""

from pydantic import model_validator

from hyena_dist.config.architecture import Architecture
from hyena_dist.config.costs import Parameter, linear
from hyena_dist.config.mixers.record import Mixer
from hyena_dist.config.mixers.table import DEFAULT, mixer
from hyena_dist.errors import UserError


class ModelConfig(Architecture):
    """A model: its architecture, and what follows from the mixers of its layers."""

    @model_validator(mode="after")
    def _layers_fit(self) -> "ModelConfig":
        try:
            layers = self.layers
        except UserError as error:
            raise ValueError(str(error)) from error
        if len(layers) != self.n_layer:
            raise ValueError(
                f"layer_pattern {self.layer_pattern} names {len(layers)} layers, n_layer is {self.n_layer}; "
                f"set n_layer={len(layers)} or give {self.n_layer} letters"
            )
        for record in dict.fromkeys(layers):
            if problem := record.problem(self):
                raise ValueError(problem)
        return self

    @property
    def mixers(self) -> str:
        """The letters of the layers' mixers, one for each layer."""
        return self.layer_pattern or DEFAULT * self.n_layer

    @property
    def layers(self) -> tuple[Mixer, ...]:
        """The record of each layer's mixer."""
        return tuple(mixer(letter) for letter in self.mixers)

    @property
    def mixer_units(self) -> dict[str, int]:
        """Sizes by name that tensor ranks must divide and context ranks share, because some mixer wants it."""
        return {name: size for record in self.layers for name, size in record.units(self).items()}

    @property
    def parameters(self) -> list[Parameter]:
        """All parameters by their names in models/lm.py, a tied head counted once."""
        d = self.d_model
        inner = self.inner_size
        embedding = Parameter("backbone.embeddings.word_embeddings.weight", self.padded_vocab_size * d, True)
        mlp = [*linear("mlp.fc1", d, inner, column=True), *linear("mlp.fc2", inner, d, column=False)]
        found = [embedding, *_norm("backbone.ln_f", d)]
        for index, record in enumerate(self.layers):
            mixed = [p._replace(name=f"mixer.{p.name}") for p in record.all_parameters(self)]
            layer = [*_norm("norm1", d), *mixed, *_norm("norm2", d), *mlp]
            found += [p._replace(name=f"backbone.layers.{index}.{p.name}") for p in layer]
        return found if self.tie_embeddings else [*found, embedding._replace(name="lm_head.weight")]

    @property
    def num_parameters(self) -> int:
        """Trainable parameters of the whole model."""
        return sum(parameter.numbers for parameter in self.parameters)


def _norm(name: str, width: int) -> list[Parameter]:
    return [Parameter(f"{name}.weight", width, False), Parameter(f"{name}.bias", width, False)]
