"""URLs where a path of this machine is asked for, which a Path takes for folders without a word."""

import re
from pathlib import Path

from hyena_dist.errors import UserError

_SCHEME = re.compile(r"([A-Za-z][A-Za-z0-9+.-]*):/+")


def as_url(place: str | Path) -> str | None:
    """Return the URL or `pipe:` command that a place is, with the slashes that Path has merged; None for a path."""
    text = str(place)
    match = _SCHEME.match(text)
    if match:
        return f"{match[1]}://{text[match.end() :]}"
    return text if text.startswith("pipe:") else None


def check_local(out: Path) -> None:
    """Raise UserError if a place for output is not on this machine.

    Args:
        out: the file or folder to write.
    """
    url = as_url(out)
    if url:
        raise UserError(
            f"{url} is a URL, and output is written to this machine; "
            f"name a path here, and copy what is written by a tool such as `aws s3 sync`"
        )
