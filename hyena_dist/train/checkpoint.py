"""Checkpoints: a folder that is either whole or not there.

step-00000100/
    config.json, model.safetensors    the model alone, as load_published reads it
    zero/                             DeepSpeed's state of every rank
    run.yaml, state.json              the resolved run and where it stands
    files.json                        size and SHA-256 of all of these, written last
"""

import hashlib
import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

from safetensors import SafetensorError
from safetensors.torch import save_file

from hyena_dist.config import RunConfig
from hyena_dist.config_file import dump_config
from hyena_dist.errors import UserError
from hyena_dist.models.lm import HyenaDNA
from hyena_dist.models.published import published_config
from hyena_dist.parallel.mesh import Mesh
from hyena_dist.parallel.zero import Engine

# What may differ between a checkpoint and the run that continues it: nothing that the losses depend on.
_FREE = {
    "name": True,
    "output_dir": True,
    "tracking": True,
    "evaluation": True,
    "train": {"log_interval": True, "eval_interval": True, "save_interval": True, "keep_last": True},
    "data": {"path": True, "source": True, "prefetch": True},
}


def save(
    directory: Path, step: int, engine: Engine, model: HyenaDNA, config: RunConfig, state: dict[str, Any], mesh: Mesh
) -> Path:
    """Write the checkpoint of `step` below `directory` and drop the oldest ones; every rank must call this.

    Raises:
        UserError: a file could not be written. What was there before is untouched.
    """
    final = directory / f"step-{step:08d}"
    partial = directory / f".{final.name}.partial"

    def make_folder() -> None:
        shutil.rmtree(partial, ignore_errors=True)
        partial.mkdir(parents=True)

    try:
        mesh.on_main(make_folder)
        engine.save(partial)
        tensors = engine.state_dict()
        mesh.on_main(lambda: _finish(partial, final, tensors or {}, model, config, {"step": step, **state}))
    except OSError as error:
        if mesh.is_main:
            shutil.rmtree(partial, ignore_errors=True)
        last = latest(directory)
        kept = f"the last whole one is {last}" if last else "there is none before it"
        raise UserError(
            f"cannot save the checkpoint of step {step} in {directory}: {error.strerror or error}; "
            f"{kept}; free some space and start again with --resume auto"
        ) from error
    if mesh.is_main:
        for old in list_checkpoints(directory)[: -config.train.keep_last]:
            shutil.rmtree(old)
    return final


def _finish(
    partial: Path, final: Path, tensors: dict[str, Any], model: HyenaDNA, config: RunConfig, state: dict[str, Any]
) -> None:
    try:
        save_file(tensors, partial / "model.safetensors")
    except SafetensorError as error:  # its own exception for a full disk
        raise OSError(str(error)) from error
    (partial / "config.json").write_text(json.dumps(published_config(model), indent=2) + "\n")
    (partial / "run.yaml").write_text(dump_config(config))
    (partial / "state.json").write_text(json.dumps(state, indent=2) + "\n")
    files = {str(p.relative_to(partial)): _fingerprint(p) for p in sorted(partial.rglob("*")) if p.is_file()}
    (partial / "files.json").write_text(json.dumps(files, indent=2) + "\n")
    for path in (*partial.rglob("*"), partial):
        _sync(path)
    replaced = partial.with_suffix(".replaced")
    shutil.rmtree(replaced, ignore_errors=True)
    if final.exists():  # a corrupt one that was passed over
        os.replace(final, replaced)
    os.replace(partial, final)
    _sync(final.parent)
    shutil.rmtree(replaced, ignore_errors=True)


def list_checkpoints(directory: Path) -> list[Path]:
    """Whole checkpoints, oldest first."""
    return sorted(p for p in directory.glob("step-*") if (p / "files.json").is_file())


def latest(directory: Path) -> Path | None:
    """The newest whole checkpoint, its contents unchecked."""
    return next(reversed(list_checkpoints(directory)), None)


def check(path: Path) -> None:
    """Compare sizes and hashes of a checkpoint's files.

    Raises:
        UserError: the first file that is missing or differs.
    """
    try:
        files = json.loads((path / "files.json").read_text())
    except (OSError, ValueError) as error:
        raise UserError(f"{path} is not a whole checkpoint (files.json unreadable); name another") from error
    for name, expected in files.items():
        try:
            same = _fingerprint(path / name) == expected
        except OSError:
            same = False
        if not same:
            raise UserError(f"{path / name} is missing or not what was saved; delete {path} and use the one before")


def newest_intact(directory: Path, note: Callable[[str], None]) -> Path | None:
    """The newest checkpoint whose files have the hashes they were saved with; says which ones it passes over."""
    for path in reversed(list_checkpoints(directory)):
        try:
            check(path)
        except UserError as error:
            note(f"WARNING: {error}; falling back to an older checkpoint")
        else:
            return path
    return None


def read_state(path: Path) -> dict[str, Any]:
    """state.json of a checkpoint."""
    state: dict[str, Any] = json.loads((path / "state.json").read_text())
    return state


def check_compatible(path: Path, config: RunConfig, world_size: int) -> None:
    """Refuse to continue a run that would not be the same run.

    Raises:
        UserError: another architecture, schedule, batch, seed, ZeRO preset or number of ranks.
    """
    import yaml

    saved = yaml.safe_load((path / "run.yaml").read_text())
    now = yaml.safe_load(dump_config(config))
    difference = _first_difference(saved, now, _FREE)
    if difference is not None:
        key, was, is_now = difference
        what = "of another architecture" if key.startswith("model.") else "of another run"
        raise UserError(
            f"{path} is {what}: {key} was {was!r} and is now {is_now!r}; set it back, or start a new run with name=..."
        )
    ranks = read_state(path)["world_size"]
    if ranks != world_size:
        raise UserError(f"{path} was saved by {ranks} ranks and cannot continue on {world_size}; start {ranks} ranks")


def _first_difference(saved: Any, now: Any, free: Any, where: str = "") -> tuple[str, Any, Any] | None:
    if free is True:
        return None
    if isinstance(saved, dict) and isinstance(now, dict):
        for key in sorted(saved.keys() | now.keys()):
            rest = free.get(key) if isinstance(free, dict) else None
            found = _first_difference(saved.get(key), now.get(key), rest, f"{where}.{key}".lstrip("."))
            if found is not None:
                return found
        return None
    return None if saved == now else (where, saved, now)


def _fingerprint(path: Path) -> list[Any]:
    with open(path, "rb") as file:
        return [path.stat().st_size, hashlib.file_digest(file, "sha256").hexdigest()]


def _sync(path: Path) -> None:
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
