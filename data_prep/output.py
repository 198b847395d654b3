"""A look into the folder that a store or shards are to be written to, before anything is written."""

from pathlib import Path
from typing import Any

from hyena_dist.data.store.manifest import read_manifest
from hyena_dist.errors import UserError


def existing_manifest(out: Path) -> dict[str, Any] | None:
    """Return the manifest of the store or shards at `out`, or None if `out` is absent or an empty folder.

    Raises:
        UserError: `out` is something else, which must not be replaced.
    """
    if not out.exists() or (out.is_dir() and not any(out.iterdir())):
        return None
    try:
        return read_manifest(out)
    except UserError as error:
        raise UserError(
            f"{out} exists and is left as it is, because it is no store that can be read ({error}); "
            f"choose another folder with --out, or delete it"
        ) from error
