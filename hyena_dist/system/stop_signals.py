"""Signals that ask a run to save and stop: SIGUSR1, and what else a cluster sends before it takes its machines away."""

import os
import signal

from hyena_dist.errors import UserError

VARIABLE = "HYENA_DIST_STOP_SIGNAL"
"""The variable with the name of a further signal, for example USR2."""


def stop_signals() -> tuple[signal.Signals, ...]:
    """Return SIGUSR1, and the signal that the environment names.

    Raises:
        UserError: there is no such signal.
    """
    name = os.environ.get(VARIABLE, "USR1")
    try:
        return tuple(dict.fromkeys((signal.SIGUSR1, signal.Signals[f"SIG{name.removeprefix('SIG')}"])))
    except KeyError:
        raise UserError(f"{VARIABLE}={name} is no signal; write for example USR2") from None


def asking() -> frozenset[signal.Signals]:
    """Return all signals that ask for an end: also those of preemption, Ctrl-C, or a terminal that is closed."""
    return frozenset({*stop_signals(), signal.SIGTERM, signal.SIGINT, signal.SIGHUP})
