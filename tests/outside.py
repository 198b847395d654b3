"""Paths that tests need outside of the repository: an environment variable says where each is."""

import os
from pathlib import Path

import pytest


def outside(variable: str, what: str) -> Path:
    """The path in an environment variable; without it the test is skipped, but in CI (CI=true) it fails."""
    path = os.environ.get(variable)
    if path and Path(path).exists():
        return Path(path)
    reason = f"{variable}={path} does not exist" if path else f"{variable} does not say where {what} is"
    if path or os.environ.get("CI") == "true":
        pytest.fail(reason)
    pytest.skip(reason)
