"""Checkpoints: a folder that is either whole or not there.

step-00000100/
    config.json, model.safetensors    the model alone, as load_published reads it
    optimizer-00001-of-0000N.safetensors   AdamW's moments of every parameter, spread over N files
    run.yaml, state.json              the resolved run and where it stands
    files.json                        size and SHA-256 of all of these, written last

Tensors are whole and have their parameters' names, so that any layout of ranks and any ZeRO stage can continue.
"""

import hashlib
import json
import re
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

from hyena_dist.config.file import dump_config, parse_config
from hyena_dist.config.run import RunConfig
from hyena_dist.errors import UserError

# What may differ between a checkpoint and the run that continues it: nothing that the losses depend on, but for what
# is done when they go wrong.
_FREE = {
    "name": True,
    "output_dir": True,
    "parallel": True,
    "tracking": True,
    "evaluation": True,
    "train": {
        "log_interval": True,
        "eval_interval": True,
        "save_interval": True,
        "save_retain_interval": True,
        "keep_last": True,
        "micro_batch_size": True,
        "micro_batch_tokens": True,
        "curriculum": {"micro_batch_size": True, "parallel": True},  # of each stage
        "async_save": True,
        "on_nan": True,
        "spike_sigma": True,
        "timeout_s": True,
    },
    "data": {"path": True, "workers": True, "prefetch": True, "timeout_s": True},
    # Files may move: the fingerprint tells labelled data, and the checkpoint has what became of the model.
    "task": {
        "model": True,
        "data": {"path": True, "train": True, "valid": True, "test": True, "genome": True},
        "report": True,
        "floors": True,
        "published": True,
    },
}


def model_folder(path: Path) -> Path:
    """Return the folder of config.json and weights: a run's newest checkpoint or `path` itself, its files checked.

    Raises:
        UserError: a run without a checkpoint, or files that are damaged or cannot be read.
    """
    runs = path / "checkpoints"
    if folders := checkpoint_folders(runs):
        whole = list_checkpoints(runs)
        if not whole:
            raise UserError(f"{folders[-1]} is not whole, since it has no files.json; name another folder")
        path = whole[-1]
    elif runs.is_dir():
        raise UserError(f"{runs} holds no whole checkpoint; train first or name another folder")
    if _is_whole(path):
        check(path)
    return path


def step_of(path: Path) -> int | None:
    """Return the step in the name of a checkpoint; None for names that are not ours, such as step-00000020.copy."""
    match = re.fullmatch(r"step-(\d{8,})", path.name)
    return int(match[1]) if match else None


def checkpoint_folders(directory: Path) -> list[Path]:
    """Return what has the name of a checkpoint in a folder, whole or not, oldest first; nothing if there is no folder.

    Raises:
        UserError: the folder cannot be read.
    """
    try:
        found = [(step, path) for path in directory.iterdir() if (step := step_of(path)) is not None]
    except (FileNotFoundError, NotADirectoryError):
        return []
    except OSError as error:
        raise UserError(
            f"cannot read {directory} ({error.strerror}); ask its owner for the right to, or name another folder"
        ) from error
    return [path for _, path in sorted(found)]


def list_checkpoints(directory: Path) -> list[Path]:
    """Return the whole checkpoints of a folder, oldest first; where that cannot be read, `check` says why.

    Raises:
        UserError: the folder cannot be read.
    """
    return [path for path in checkpoint_folders(directory) if _is_whole(path)]


def _is_whole(path: Path) -> bool:
    try:
        (path / "files.json").stat()
    except (FileNotFoundError, NotADirectoryError):
        return False
    except OSError:
        return True
    return True


def latest(directory: Path) -> Path | None:
    """Return the newest whole checkpoint, its contents unchecked."""
    return next(reversed(list_checkpoints(directory)), None)


def check(path: Path, contents: bool = True) -> None:
    """Compare the files of a checkpoint with what was saved.

    Args:
        path: the checkpoint.
        contents: whether to compare hashes too, for which all is read, and not sizes alone.

    Raises:
        UserError: the first file that is missing, differs or cannot be read.
    """
    try:
        files = json.loads((path / "files.json").read_text())
        expected = {name: (int(size), str(sha256)) for name, (size, sha256) in files.items()}
    except OSError as error:
        raise UserError(f"{path / 'files.json'} cannot be read ({error.strerror}); name another checkpoint") from error
    except (ValueError, TypeError, AttributeError) as error:
        raise UserError(f"{path} is not a whole checkpoint (files.json is damaged); name another") from error
    for name, (size, sha256) in expected.items():
        file = path / name
        try:
            same = file.stat().st_size == size and (not contents or fingerprint(file) == [size, sha256])
        except FileNotFoundError:
            same = False
        except OSError as error:
            raise UserError(f"{file} cannot be read ({error.strerror}); see to the disk, or name another") from error
        if not same:
            raise UserError(f"{file} is missing or not what was saved; delete {path} and use the one before")


def newest_intact(directory: Path, note: Callable[[str], None]) -> Path | None:
    """Return the newest checkpoint whose files have the hashes they were saved with; note what is passed over.

    Raises:
        UserError: there are checkpoints and none of them is intact.
    """
    folders = checkpoint_folders(directory)
    for path in reversed(folders):
        try:
            check(path)
        except UserError as error:
            note(f"WARNING: {error}")
        else:
            return path
    if folders:
        raise UserError(
            f"none of the {len(folders)} checkpoints in {directory} is intact, as the warnings say; bring one back "
            f"from a copy, or start anew with name=..."
        )
    return None


def check_compatible(path: Path, config: RunConfig) -> None:
    """Refuse to continue a run that would not be the same run. How it is spread over ranks is free.

    Raises:
        UserError: another architecture, schedule, global batch, precision or seed.
    """
    import yaml

    saved = yaml.safe_load((path / "run.yaml").read_text())
    with suppress(UserError):  # a run from before a field existed has its default; if no run at all, it differs
        saved = yaml.safe_load(dump_config(parse_config(saved, "run.yaml")))
    now = yaml.safe_load(dump_config(config))
    difference = _first_difference(saved, now, _FREE)
    if difference is not None:
        key, was, is_now = difference
        what = "of another architecture" if key.startswith("model.") else "of another run"
        raise UserError(
            f"{path} is {what}: {key} was {was!r} and is now {is_now!r}; set it back, or start a new run with name=..."
        )


def _first_difference(saved: Any, now: Any, free: Any, where: str = "") -> tuple[str, Any, Any] | None:
    if free is True:
        return None
    if isinstance(saved, list) and isinstance(now, list) and len(saved) == len(now):
        pairs = [(f"{where}[{i}]", *pair, free) for i, pair in enumerate(zip(saved, now, strict=True))]
    elif isinstance(saved, dict) and isinstance(now, dict):
        rest = free or {}
        keys = sorted(saved.keys() | now.keys())
        pairs = [(f"{where}.{k}".lstrip("."), saved.get(k), now.get(k), rest.get(k)) for k in keys]
    else:
        return None if saved == now else (where, saved, now)
    differences = (_first_difference(was, is_now, rest, key) for key, was, is_now, rest in pairs)
    return next((d for d in differences if d is not None), None)


def fingerprint(path: Path) -> list[Any]:
    """Return size in bytes and SHA-256 of a file, as files.json has them."""
    with open(path, "rb") as file:
        return [path.stat().st_size, hashlib.file_digest(file, "sha256").hexdigest()]
