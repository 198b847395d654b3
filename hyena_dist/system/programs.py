"""Programs of this Python environment, which need not be activated."""

import os
import shutil
import sys


def program(name: str) -> str:
    """Return what to type here to call `name` of this environment: its name if PATH leads to it, else its path."""
    beside = os.path.join(os.path.dirname(sys.executable), name)
    if not os.path.exists(beside):
        return name
    found = shutil.which(name)
    if found and os.path.samefile(found, beside):
        return name
    return min(beside, os.path.relpath(beside), key=len)
