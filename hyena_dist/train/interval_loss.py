"""The mean loss between two rows of metrics, the same whether or not the run was interrupted between them."""

import math

import torch

from hyena_dist.parallel.mesh import Mesh


class IntervalLoss:
    """The losses of the steps since the last row of metrics; every rank has one, and all call its methods alike.

    A step's sum stays where it was computed until somebody asks, so that no step waits for a device.

    Args:
        mesh: this rank's groups.
        known: (summed loss, weight) over all ranks of each step since the last row, from a checkpoint.
    """

    def __init__(self, mesh: Mesh, known: tuple[tuple[float, float], ...] = ()) -> None:
        self._mesh = mesh
        self._known = list(known)
        self._local: list[tuple[torch.Tensor, float]] = []

    def add(self, loss_sum: torch.Tensor, weight: float) -> None:
        """Take in a step.

        Args:
            loss_sum: this rank's summed loss, a float64 scalar.
            weight: the weight of the step's targets over all ranks.
        """
        self._local.append((loss_sum, weight))

    def steps(self) -> tuple[tuple[float, float], ...]:
        """Return (summed loss, weight) over all ranks of each step since the last row, for a checkpoint."""
        sums = (
            torch.stack([loss_sum for loss_sum, _ in self._local]).tolist() if self._local else []
        )  # one copy to the host
        for loss_sum, (_, weight) in zip(sums, self._local, strict=True):
            # One by one, so that it does not matter which are asked for together.
            self._known.append((self._mesh.world.all_reduce_sum(loss_sum) / self._mesh.tensor.size(), weight))
        self._local.clear()
        return tuple(self._known)

    def last(self) -> float | None:
        """Return the mean loss of the last step, None where no target counts: that is not a loss of 0."""
        return _mean(self.steps()[-1:])

    def end(self) -> float | None:
        """Return the mean loss over all targets since the last row, None where none counts, and begin anew.

        A step whose loss is not finite does not count beside others: the guard speaks of it.
        """
        steps = self.steps()
        finite = tuple(step for step in steps if math.isfinite(step[0]))
        mean = _mean(finite if any(weight for _, weight in finite) else steps)
        self._known.clear()
        return mean


def _mean(steps: tuple[tuple[float, float], ...]) -> float | None:
    total = sum(loss_sum for loss_sum, _ in steps)
    weight = sum(weight for _, weight in steps)
    return total / weight if weight else None
