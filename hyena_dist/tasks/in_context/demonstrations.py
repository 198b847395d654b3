"""Demonstrations: the examples of train that a context shows are a function of the numbers that name it."""

import numpy as np
from numpy.typing import NDArray

from hyena_dist.errors import UserError


class Demonstrations:
    """Draws demonstrations, different examples of one split whose classes take turns in a random order.

    With as many shots as classes each class is shown once, so that a context says no more often what is frequent.

    Args:
        labels: the class of each example, int64 [N].
        classes: the names of the classes.
        shots: how many demonstrations a context has.

    Raises:
        UserError: a class with too few examples.
    """

    def __init__(self, labels: NDArray[np.int64], classes: tuple[str, ...], shots: int) -> None:
        self.shots = shots
        self._of_class = [np.flatnonzero(labels == index) for index in range(len(classes))]
        most = -(-shots // len(classes))
        for name, examples in zip(classes, self._of_class, strict=True):
            if shots and len(examples) <= most:  # a query of the class is not among its own demonstrations
                raise UserError(
                    f"{shots} shots show up to {most} examples of class {name!r} beside the query, and train has "
                    f"{len(examples)}; lower task.in_context.shots"
                )

    def draw(self, *context: int, query: int | None = None) -> list[int]:
        """Return the indices of the demonstrations of a context.

        Args:
            context: numbers that name it, such as (seed, step, sample).
            query: the index of its query if that is of the same split, which then is no demonstration.
        """
        random = np.random.default_rng(context)
        chosen: list[int] = []
        while len(chosen) < self.shots:
            for index in random.permutation(len(self._of_class))[: self.shots - len(chosen)]:
                examples = self._of_class[index]
                while (drawn := int(random.choice(examples))) in chosen or drawn == query:
                    pass
                chosen.append(drawn)
        return chosen
