"""Measurements in processes that start at once."""

import multiprocessing

import pytest

from tests.processes import SERVER


@pytest.fixture
def started_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let processes of `in_a_process` fork from the tests' server, instead of importing torch each for itself."""
    monkeypatch.setattr(multiprocessing, "get_context", lambda method: SERVER)
