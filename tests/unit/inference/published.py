"""The published model by its formulas in float64, from a weights file to the log-likelihood of every base.

Nothing of hyena_dist.models or hyena_dist.inference takes part: tensors by their published names, the plain operators
of ops/reference, and a softmax.

Shapes: L positions, D d_model, V vocabulary.
"""

import json
import math
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from hyena_dist.ops import DecayWindow, Features, Filters, MLPWeights, NormInput, Projections, SineNetwork
from hyena_dist.ops import reference as ops

SHIFT = 0.05
EPS = 1e-5
TOKENS = {letter: token for token, letter in enumerate("ACGTN", 7)}
VOCAB = 12


def log_likelihoods(folder: Path, sequence: str) -> NDArray[np.float64]:
    """Return log p(base | bases before it) for each base, [L]; NaN for the first, and for N."""
    layer_fields = json.loads((folder / "config.json").read_text())["layer"]
    stored = torch.load(folder / "weights.ckpt", weights_only=True)["state_dict"]
    state = {name.removeprefix("model.").replace(".layer.", "."): value.double() for name, value in stored.items()}
    tokens = torch.tensor([TOKENS[letter] for letter in sequence])
    x = state["backbone.embeddings.word_embeddings.weight"][tokens[:-1], None]  # [L - 1, 1, D]
    for number in range(1 + max(int(name.split(".")[2]) for name in state if name.startswith("backbone.layers."))):
        layer = f"backbone.layers.{number}."
        x = _block({name.removeprefix(layer): state[name] for name in state if name.startswith(layer)}, x, layer_fields)
    hidden = ops.layer_norm(x[:, 0], _norm(state, "backbone.ln_f"))
    odds = torch.exp((hidden @ state["lm_head.weight"].t())[:, :VOCAB])
    found = np.full(len(sequence), math.nan)
    for at in range(1, len(sequence)):
        if sequence[at] in "ACGT":
            found[at] = math.log(odds[at - 1, tokens[at]] / odds[at - 1].sum())
    return found


def _block(layer: dict[str, Tensor], x: Tensor, fields: dict[str, int]) -> Tensor:
    """One layer: [L, 1, D] -> [L, 1, D]."""
    network = "mixer.filter_fn.implicit_filter"
    length, width = len(x), x.shape[-1]
    kernels = ops.implicit_filter(
        Features(layer["mixer.filter_fn.pos_emb.z"][0, :length], layer["mixer.filter_fn.pos_emb.t"][0, :length, 0]),
        SineNetwork(
            tuple(layer[f"{network}.{i}.weight"] for i in (0, 2, 4)),
            tuple(layer[f"{network}.{i}.bias"] for i in (0, 2, 4)),
            layer[f"{network}.1.freq"],
            layer[f"{network}.6.weight"],
        ),
        DecayWindow(layer["mixer.filter_fn.modulation.deltas"][0, 0], SHIFT),
        layer["mixer.filter_fn.bias"],
    ).view(fields["order"] - 1, width, length)
    taps = Filters(layer["mixer.short_filter.weight"][:, 0], layer["mixer.short_filter.bias"], kernels)
    ends = (layer[f"mixer.{which}_proj.{what}"] for which in ("in", "out") for what in ("weight", "bias"))
    x = ops.hyena_mixer(x, _norm(layer, "norm1"), Projections(*ends), taps, residual=True)
    dense = (layer[f"mlp.{which}.{what}"] for which in ("fc1", "fc2") for what in ("weight", "bias"))
    return ops.gelu_mlp(x, _norm(layer, "norm2"), MLPWeights(*dense), residual=True)


def _norm(state: dict[str, Tensor], name: str) -> NormInput:
    return NormInput(state[f"{name}.weight"], state[f"{name}.bias"], EPS, torch.float64)
