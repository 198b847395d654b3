"""Looks into the folder that a store or shards are written to, before the work and before its result moves in."""

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


def check_replaceable(out: Path, overwrite: bool) -> None:
    """Look at the folder again when the long work is done, right before its result takes the folder's place.

    Args:
        out: the folder.
        overwrite: whether to replace a store or shards.

    Raises:
        UserError: `out` has got content meanwhile that must not be replaced.
    """
    if existing_manifest(out) and not overwrite:
        raise UserError(
            f"{out} has come to be while this command was at work, and is left as it is; "
            f"choose another folder with --out, or replace it with --overwrite"
        )
