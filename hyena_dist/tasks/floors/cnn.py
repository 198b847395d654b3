"""The small CNN that GenomicBenchmarks gives as its baseline (Gresova et al. 2023), trained from its random weights.

Letters become vectors of 100, three convolutions of width 8 with 16, 8 and 4 channels follow, each with batch
normalisation, ReLU and a maximum over 2, then a layer of 512 and the output.

Shapes: B sequences, L bases of the longest, C classes or targets.
"""

import copy
from itertools import pairwise

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional as F

from hyena_dist.data.tokenizer import A
from hyena_dist.tasks.floors.features import middle
from hyena_dist.tasks.labelled import Examples, Kind

LETTERS = 5
"""A, C, G, T and N; what pads short sequences is none of them."""
LONGEST = 4096
"""Bases of a sequence that the CNN sees, those in its middle."""
_SHORTEST = 64  # three convolutions and maxima leave something of this
_BATCH, _EPOCHS, _PATIENCE, _LR = 64, 10, 2, 1e-3


class Cnn(nn.Module):
    """The network, for sequences of one length."""

    def __init__(self, length: int, outputs: int, width: int = 100) -> None:
        super().__init__()
        channels = (width, 16, 8, 4)
        self.letters = nn.Parameter(torch.randn(LETTERS, width))
        self.convs = nn.ModuleList(nn.Conv1d(a, b, 8) for a, b in pairwise(channels))
        self.norms = nn.ModuleList(nn.BatchNorm1d(size) for size in channels[1:])
        for _ in self.convs:
            length = (length - 7) // 2
        self.hidden = nn.Linear(channels[-1] * length, 512)
        self.output = nn.Linear(512, outputs)

    def forward(self, letters: Tensor) -> Tensor:
        """Return logits, or numbers in units of their spread, [B, C].

        Args:
            letters: which of LETTERS each base is, zeros where a sequence has ended; fp32 [B, LETTERS, L].
        """
        # The vectors of letters and the first convolution are linear: as one they cost a twentieth.
        first, *others = self.convs
        assert isinstance(first, nn.Conv1d)
        x = F.conv1d(letters, torch.einsum("ock,lc->olk", first.weight, self.letters), first.bias)
        for conv, norm in zip([nn.Identity(), *others], self.norms, strict=True):
            x = F.max_pool1d(F.relu(norm(conv(x))), 2)
        return self.output(self.hidden(x.flatten(1)))


def cnn_scores(
    kind: Kind, classes: int, train: Examples, valid: Examples, test: Examples, seed: int = 0
) -> NDArray[np.float32]:
    """Train a CNN for at most 10 epochs and return scores of test, by the weights that were best on valid, [N, C]."""
    length = int(np.clip(max(train.lengths), _SHORTEST, LONGEST))
    bases, valid_bases, test_bases = (_bases(examples, length) for examples in (train, valid, test))
    truth, valid_truth = torch.as_tensor(train.labels), torch.as_tensor(valid.labels)
    if kind == "regression":
        centre, scale = truth.nanmean(0), (truth - truth.nanmean(0)).square().nanmean(0).sqrt().clamp(min=1e-8)
        truth, valid_truth = (truth - centre) / scale, (valid_truth - centre) / scale
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = Cnn(length, classes)
        optimizer = torch.optim.Adam(model.parameters(), lr=_LR)
        least, waited, best = np.inf, 0, model.state_dict()
        for _ in range(_EPOCHS):
            model.train()
            for chosen in torch.randperm(len(train)).split(_BATCH):
                if len(chosen) > 1:  # of which batch normalisation takes a variance
                    optimizer.zero_grad()
                    _loss(kind, model(_one_hot(bases[chosen])), truth[chosen]).backward()
                    optimizer.step()
            loss = float(_loss(kind, _outputs(model, valid_bases), valid_truth))
            waited += 1
            if loss < least:
                least, waited, best = loss, 0, copy.deepcopy(model.state_dict())
            if waited == _PATIENCE:
                break
    model.load_state_dict(best)
    found = _outputs(model, test_bases)
    if kind == "regression":
        return (found * scale + centre).numpy()
    return (found.softmax(1) if kind == "single_label" else found.sigmoid()).numpy()


def _loss(kind: Kind, found: Tensor, truth: Tensor) -> Tensor:
    if kind == "single_label":
        return F.cross_entropy(found, truth)
    known = ~truth.isnan()
    loss = F.binary_cross_entropy_with_logits if kind == "multi_label" else F.mse_loss
    return loss(found[known], truth[known])


@torch.no_grad()
def _outputs(model: Cnn, bases: Tensor) -> Tensor:
    model.eval()
    return torch.cat([model(_one_hot(part)) for part in bases.split(_BATCH)])


def _bases(examples: Examples, length: int) -> Tensor:
    """Return the bases in the middle of each sequence, A 0 to N 4, and LETTERS after its end; uint8 [N, length]."""
    found = np.full((len(examples), length), LETTERS, dtype=np.uint8)
    for i in range(len(examples)):
        tokens = middle(examples.read(i), length)
        found[i, : len(tokens)] = tokens - A
    return torch.from_numpy(found)


def _one_hot(bases: Tensor) -> Tensor:
    return (bases[:, None] == torch.arange(LETTERS)[:, None]).float()
