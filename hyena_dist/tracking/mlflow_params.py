"""Settings as MLflow takes them: flat, under names that every store takes, and never changed once they are there."""

import re
from collections.abc import Iterator, Mapping
from typing import Any

# Limits of MLflow's REST API. It takes 6,000 characters of a parameter, older servers 500; the whole configuration is
# an artifact, so nothing is lost by keeping to 500.
_PARAM_LENGTH = 500
_KEY_LENGTH = 250
_PER_CALL = 100


def log_params(client: Any, run_id: str, params: Mapping[str, object]) -> None:
    """Record settings under dotted names where they are nested, and cut where they are long.

    MLflow never changes a parameter, so one that a resumed run has changed is recorded as the tag ``changed.<name>``.
    """
    from mlflow.entities import Param, RunTag

    data = client.get_run(run_id).data
    flat = {clean(name): str(value)[:_PARAM_LENGTH] for name, value in _flatten(params)}
    new = [Param(name, value) for name, value in flat.items() if name not in data.params]
    changed = []
    for name, value in flat.items():
        tag = clean(f"changed.{name}")
        if data.tags.get(tag, data.params.get(name, value)) != value:  # back to the first value is a change too
            changed.append(RunTag(tag, value))
    for start in range(0, len(new), _PER_CALL):
        client.log_batch(run_id, params=new[start : start + _PER_CALL])
    for start in range(0, len(changed), _PER_CALL):
        client.log_batch(run_id, tags=changed[start : start + _PER_CALL])


def clean(name: str) -> str:
    """Return a name that every MLflow store takes: letters, digits and ``_ - . /`` or a blank."""
    return re.sub(r"[^\w/. -]", "_", name, flags=re.ASCII)[:_KEY_LENGTH]


def _flatten(params: Mapping[str, object], prefix: str = "") -> Iterator[tuple[str, object]]:
    for name, value in params.items():
        if isinstance(value, Mapping):
            yield from _flatten(value, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}", value
