"""The perplexity of a model on windows, from the loss of each: with its interval, or an error where it is not finite.

Shapes: W windows.
"""

import math
from collections.abc import Sequence
from typing import NamedTuple

from torch import Tensor, nn

from hyena_dist.data.store.manifest import Interval
from hyena_dist.errors import UserError

NOTHING_SCORED = "the held-out windows hold no A, C, G or T; choose another split when building the store"
"""The reason and the fix where there is nothing to divide by."""


class Perplexity(NamedTuple):
    """The exponential of the mean negative log-likelihood, with a 95 % interval that takes windows as independent."""

    ppl: float
    low: float | None
    """The lower bound of the interval; None, like `high`, where there is one window only."""
    high: float | None
    tokens: int

    @property
    def loss(self) -> float:
        """The mean negative log-likelihood, in nats per base."""
        return math.log(self.ppl)

    def __str__(self) -> str:
        interval = "one window" if self.low is None else f"95 % {self.low:.4f} to {self.high:.4f}"
        return f"{self.ppl:.4f} ({interval}, {self.tokens:,} bases)"

    def to_json(self) -> dict[str, float | None]:
        """Return the fields by name."""
        return self._asdict()

    @classmethod
    def from_json(cls, fields: dict[str, float | None]) -> "Perplexity":
        """Make a perplexity of what `to_json` gave."""
        return cls(**fields)  # type: ignore[arg-type]


def summarize(model: nn.Module, windows: Sequence[Interval], sums: Tensor) -> Perplexity:
    """Return the perplexity of a model on windows.

    Args:
        model: the model, of which an error names the weight at fault.
        windows: what was scored.
        sums: the summed negative log-likelihood and the number of targets that count of each window, float64 [W, 2].

    Raises:
        UserError: no window holds a base that counts, or the model's loss is not finite.
    """
    _check_finite(model, windows, sums[:, 0])
    return estimate(sums)


def _check_finite(model: nn.Module, windows: Sequence[Interval], nll: Tensor) -> None:
    """Refuse losses of windows, [W], of which any is not finite, and name the weight that is at fault."""
    bad = (~nll.isfinite()).nonzero().flatten().tolist()
    if not bad:
        return
    first = windows[bad[0]]
    weight = next((name for name, value in model.named_parameters() if not value.isfinite().all()), None)
    reason = f"the weight {weight} is not finite" if weight else "all weights are finite, so activations overflow"
    fix = "evaluate an earlier checkpoint" if weight else "evaluate in float32, or an earlier checkpoint"
    raise UserError(
        f"the loss is {float(nll[bad[0]])} on {len(bad):,} of {len(windows):,} held-out windows, first on "
        f"{first.contig}:{first.start}-{first.end}: {reason}; {fix}"
    )


def estimate(sums: Tensor) -> Perplexity:
    """Return the perplexity for the sums that `summarize` takes."""
    nll, count = sums.unbind(1)
    total = count.sum()
    if total == 0:
        raise UserError(NOTHING_SCORED)
    mean = nll.sum() / total
    # The ratio estimator's standard error: what windows deviate from their share, summed.
    spread = ((nll - mean * count) ** 2).sum().sqrt() / total
    n = int((count > 0).sum())
    if n == 1:
        return Perplexity(_exp(mean), None, None, int(total))
    half = 1.96 * spread * math.sqrt(n / (n - 1))
    return Perplexity(_exp(mean), _exp(mean - half), _exp(mean + half), int(total))


def _exp(loss: Tensor) -> float:
    return math.exp(min(float(loss), 700))  # as a step's perplexity: JSON has no infinity
