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
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from hyena_dist.config import RunConfig
from hyena_dist.config_file import dump_config
from hyena_dist.errors import UserError
from hyena_dist.models.lm import HyenaDNA
from hyena_dist.models.published import load_weights, published_config, read_tensors
from hyena_dist.parallel.mesh import Mesh
from hyena_dist.parallel.zero import Engine
from hyena_dist.parallel.zero_state import set_moments, whole_moments, whole_weights

# What may differ between a checkpoint and the run that continues it: nothing that the losses depend on.
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
        "keep_last": True,
        "micro_batch_size": True,
        "micro_batch_tokens": True,
        "curriculum": {"micro_batch_size": True},  # of each stage
    },
    "data": {"path": True, "workers": True, "prefetch": True},
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
        _save_moments(partial, engine)
        tensors = {name: _kept(t) for name, t in whole_weights(engine) if mesh.is_main}
        mesh.on_main(lambda: _finish(partial, final, tensors, model, config, {"step": step, **state}))
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


def _save_moments(folder: Path, engine: Engine) -> None:
    """Write the optimizer's files, each by the rank that collects its tensors, so that hosts share memory and disk.

    Raises:
        OSError: a file could not be written, on any rank: all ranks raise, so that none is left waiting.
    """
    mesh = engine.mesh
    this_rank = mesh.data_context.rank() if mesh.tensor.rank() == 0 else None
    loads, mine = [0] * mesh.data_context.size(), {}
    for name, tensor in whole_moments(engine):
        writer = loads.index(min(loads))  # the same on every rank
        loads[writer] += tensor.numel()
        if writer == this_rank:
            mine[name] = _kept(tensor)
    error = None
    try:
        if mine and this_rank is not None:
            path = folder / f"optimizer-{this_rank + 1:05d}-of-{sum(n > 0 for n in loads):05d}.safetensors"
            _write_tensors(path, mine)
            _sync(path)  # another host's cache is out of the main process's reach
    except OSError as caught:
        error = caught
    if mesh.any(error is not None):
        raise error or OSError("another rank could not write its part of the checkpoint")


def _kept(tensor: Tensor) -> Tensor:
    return tensor.detach().to("cpu", copy=True).contiguous()


def write_model(folder: Path, model: HyenaDNA, tensors: dict[str, Tensor]) -> None:
    """Write config.json and model.safetensors, as load_published reads them, with a model's whole tensors.

    Raises:
        OSError: a file could not be written.
    """
    _write_tensors(folder / "model.safetensors", tensors)
    (folder / "config.json").write_text(json.dumps(published_config(model), indent=2) + "\n")


def _write_tensors(path: Path, tensors: dict[str, Tensor]) -> None:
    try:
        save_file(tensors, path)
    except SafetensorError as error:  # its own exception for a full disk
        raise OSError(str(error)) from error
    path.chmod(path.parent.stat().st_mode & 0o666)  # safetensors makes files that nobody else can read


def _finish(
    partial: Path, final: Path, tensors: dict[str, Tensor], model: HyenaDNA, config: RunConfig, state: dict[str, Any]
) -> None:
    write_model(partial, model, tensors)
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


def load_model(path: Path, model: HyenaDNA) -> None:
    """Copy a checkpoint's weights into a model, of which each tensor rank takes its part."""
    weights = path / "model.safetensors"
    load_weights(model, read_tensors(weights), source=weights)


def load_optimizer(path: Path, engine: Engine) -> None:
    """Continue with a checkpoint's optimizer state; the engine's model must have its weights already.

    Raises:
        UserError: the checkpoint has no optimizer state of a parameter.
    """
    tensors: dict[str, Tensor] = {}
    for file in path.glob("optimizer-*.safetensors"):
        tensors |= load_file(file)  # mapped, not read: a rank reads what it takes

    def read(name: str) -> Tensor:
        if name not in tensors:
            raise UserError(f"{path} has no {name}; continue from another checkpoint, or start anew with name=...")
        return tensors[name]

    set_moments(engine, read, read_state(path)["step"])


def model_folder(path: Path) -> Path:
    """The folder of config.json and weights: of a run's newest checkpoint, or `path` itself, its files checked.

    Raises:
        UserError: a run without a checkpoint, or damaged files.
    """
    runs = path / "checkpoints"
    if runs.is_dir():
        newest = latest(runs)
        if newest is None:
            raise UserError(f"{runs} holds no whole checkpoint; train first or name another folder")
        path = newest
    if (path / "files.json").is_file():
        check(path)
    return path


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


def check_compatible(path: Path, config: RunConfig) -> None:
    """Refuse to continue a run that would not be the same run. How it is spread over ranks is free.

    Raises:
        UserError: another architecture, schedule, global batch, precision or seed.
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


def _fingerprint(path: Path) -> list[Any]:
    with open(path, "rb") as file:
        return [path.stat().st_size, hashlib.file_digest(file, "sha256").hexdigest()]


def _sync(path: Path) -> None:
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
