"""Writing a checkpoint: training stops for a copy of each rank's fragments, and a thread does the rest.

Every rank has a thread that sends its fragments to the ranks that write (parallel/engine/gather.py). The folder gets
its name when all files are on the disk; until then it is a hidden one, which the next save removes.
"""

import json
import os
import re
import shutil
from collections.abc import Callable, Mapping
from pathlib import Path
from threading import Thread
from typing import Any, NamedTuple

import torch
from torch import Tensor

from hyena_dist.config.file import dump_config
from hyena_dist.config.run import RunConfig
from hyena_dist.errors import UserError
from hyena_dist.parallel.engine.deepspeed import Engine
from hyena_dist.parallel.engine.fragments import Fragment, moments, weights
from hyena_dist.parallel.engine.gather import assemble, exchange, together
from hyena_dist.parallel.mesh import Mesh
from hyena_dist.system.files import replace_atomically, sync
from hyena_dist.train.checkpoint.format import fingerprint, latest
from hyena_dist.train.checkpoint.keep import Retention, is_pinned, pin
from hyena_dist.train.checkpoint.tensor_file import TensorFile, file_order
from hyena_dist.train.state import TrainState

_LEFT = re.compile(r"\.step-\d{8,}\.(partial|replaced|dropped)")
"""The names of folders that a process leaves when it is killed while it saves."""


class CheckpointWriter:
    """Saves a run's checkpoints, one after the other; every rank has one and calls it at the same steps.

    Args:
        directory: the folder that holds the checkpoints.
        engine: what is saved.
        model_files: texts by file name that are kept beside the weights.
        config: the run; async_save, keep_last and save_retain_interval count here.
        mesh: this rank's groups; `mesh.world.background` must be left to this object.
        say: told of each checkpoint on the main process, perhaps from another thread.
    """

    def __init__(
        self,
        directory: Path,
        engine: Engine,
        model_files: Mapping[str, str],
        config: RunConfig,
        mesh: Mesh,
        say: Callable[[str], None],
    ) -> None:
        self._directory = directory
        self._engine = engine
        self._config = config
        self._mesh = mesh
        self._say = say
        self._texts = {**model_files, "run.yaml": dump_config(config)}
        self._retention = Retention(config.train.keep_last, config.train.save_retain_interval, say)
        self._copies: list[Tensor] = []
        self._saved: tuple[int, dict[str, str]] | None = None
        self._thread: Thread | None = None
        self._error: Exception | None = None

    def save(self, state: TrainState, wait: bool = False) -> None:
        """Save what the engine holds now as the checkpoint of `state.step`.

        Args:
            state: goes into state.json.
            wait: whether to return only when the checkpoint is in place, as without train.async_save; this takes no
                copies, so it needs no memory for them.

        Raises:
            UserError: this checkpoint, if waited for, or the one before could not be written. What was there before
                is untouched.
        """
        self.finish()
        step = state.step
        texts = self._texts | {"state.json": state.to_json()}
        if self._saved == (step, texts):
            return  # as when a signal comes right after a save
        held = weights(self._engine), moments(self._engine)
        if wait or not self._config.train.async_save:
            self._write(state, *held, texts)
            self.finish()
            return
        copies = self._copy([*held[0], *held[1]])
        split = len(held[0])
        # No daemon: a process that ends for whatever reason first finishes its part.
        self._thread = Thread(
            target=self._write, args=(state, copies[:split], copies[split:], texts), name="checkpoint"
        )
        self._thread.start()

    @property
    def writing(self) -> bool:
        """Whether this rank's part of a write is under way."""
        return self._thread is not None and self._thread.is_alive()

    @property
    def failed(self) -> bool:
        """Whether this rank knows that the write under way has failed; `finish`, on all ranks, says why."""
        return self._error is not None

    def finish(self) -> None:
        """Wait for the write under way, if there is one.

        Raises:
            UserError: the checkpoint could not be written; on every rank.
        """
        if self._thread is not None:
            self._thread.join()
            self._thread = None
        if self._error is not None:
            error, self._error = self._error, None
            raise error

    def close(self) -> None:
        """Wait for the write under way when training ends for another reason, which a failure must not hide."""
        try:
            self.finish()
        except Exception as error:
            self._say(f"WARNING: {error}")

    def _copy(self, fragments: list[Fragment]) -> list[Fragment]:
        """Return the fragments as they are now, in memory of their own that is kept for the next time."""
        device = self._mesh.device
        cuda = device.type == "cuda"
        if not self._copies:
            self._copies = [torch.empty(f.values.shape, dtype=f.values.dtype, pin_memory=cuda) for f in fragments]
        if cuda:
            torch.cuda.synchronize(device)
        for kept, fragment in zip(self._copies, fragments, strict=True):
            kept.copy_(fragment.values, non_blocking=True)
        if cuda:
            torch.cuda.synchronize(device)
        return [f._replace(values=kept) for f, kept in zip(fragments, self._copies, strict=True)]

    def _write(self, *checkpoint: Any) -> None:
        try:
            self._put_in_place(*checkpoint)
        except Exception as error:  # raised where the training thread asks
            self._error = error

    def _put_in_place(
        self, state: TrainState, weights: list[Fragment], moments: list[Fragment], texts: dict[str, str]
    ) -> None:
        directory, step = self._directory, state.step
        mesh = self._mesh
        final = directory / f"step-{step:08d}"
        partial = directory / f".{final.name}.partial"
        try:
            together(lambda: _make_folder(partial) if mesh.world.is_main else None, mesh)
            written = together(_tensor_writer(partial, weights, moments, mesh), mesh)
            files = {name: value for each in written for name, value in each.items()}
            together(lambda: _complete(partial, final, texts, files) if mesh.world.is_main else None, mesh)
        except OSError as error:
            if mesh.world.is_main:
                shutil.rmtree(partial, ignore_errors=True)
            last = latest(directory)
            kept = f"the last whole one is {last}" if last else "there is none before it"
            raise UserError(
                f"cannot save the checkpoint of step {step} in {directory}: {error.strerror or error}; "
                f"{kept}; free some space and start again with --resume auto"
            ) from error
        self._saved = step, texts
        if mesh.world.is_main:
            self._retention.saved(final, state.best_step)
            self._say(f"step {step:,}: saved {final}")


class _File(NamedTuple):
    """A file of tensors, and the rank that writes it."""

    name: str
    rank: int
    indices: list[int]
    """The indices of the file's tensors among all fragments, in the order of the file."""


def _plan(weights: list[Fragment], moments: list[Fragment], mesh: Mesh) -> list[_File]:
    """Plan the files: the main process writes the model's, several ranks the moments', which spreads memory and disk.

    The writers of moments are the ranks that hold different shards and are tensor rank 0; each next tensor goes to the
    one that has the least to write.
    """
    places = exchange((mesh.tensor.rank(), mesh.data_context.rank()), mesh)
    writers = [places.index((0, rank)) for rank in range(mesh.data_context.size())]
    loads: list[int] = [0] * len(writers)
    indices: list[list[int]] = [[] for _ in writers]
    for index, fragment in enumerate(moments, start=len(weights)):
        least = loads.index(min(loads))
        loads[least] += fragment.shape.numel() * (1 if fragment.partition is None else mesh.tensor.size())
        indices[least].append(index)
    count = sum(load > 0 for load in loads)
    files = [_File("model.safetensors", 0, list(range(len(weights))))]
    for i, (writer, mine) in enumerate(zip(writers, indices, strict=True)):
        if mine:
            files.append(_File(f"optimizer-{i + 1:05d}-of-{count:05d}.safetensors", writer, mine))
    fragments = [*weights, *moments]
    numbers = {fragment.name: index for index, fragment in enumerate(fragments)}
    ordered = [file_order((fragments[i].name, fragments[i].values.dtype) for i in f.indices) for f in files]
    return [f._replace(indices=[numbers[name] for name in names]) for f, names in zip(files, ordered, strict=True)]


def _tensor_writer(
    folder: Path, weights: list[Fragment], moments: list[Fragment], mesh: Mesh
) -> Callable[[], dict[str, tuple[int, str]]]:
    """Return a function that writes this rank's files and returns their fingerprints by name."""
    fragments = [*weights, *moments]
    plan = _plan(weights, moments, mesh)
    ranks = range(mesh.world.background.size())
    queues = [[i for file in plan if file.rank == rank for i in file.indices] for rank in ranks]

    def write() -> dict[str, tuple[int, str]]:
        found = {}
        tensors = assemble(fragments, queues, mesh)
        try:
            for file in plan:
                if file.rank == mesh.world.background.rank():
                    inside = [fragments[i] for i in file.indices]
                    described = {f.name: (f.values.dtype, f.whole_shape(mesh.tensor.size())) for f in inside}
                    with TensorFile(folder / file.name, described) as out:
                        for _ in inside:
                            out.write(next(tensors))
                    found[file.name] = out.fingerprint
        finally:
            for _ in tensors:  # a disk that is full here must not keep other ranks waiting
                pass
        return found

    return write


def _make_folder(partial: Path) -> None:
    for left in partial.parent.glob(".step-*"):
        if _LEFT.fullmatch(left.name):
            shutil.rmtree(left, ignore_errors=True)
    partial.mkdir(parents=True)


def _complete(partial: Path, final: Path, texts: dict[str, str], files: dict[str, tuple[int, str]]) -> None:
    """Write the texts and then files.json into the folder, and give it its name."""
    for name, text in texts.items():
        (partial / name).write_text(text)
        sync(partial / name)
    known = {name: list(value) for name, value in files.items()} | {n: fingerprint(partial / n) for n in texts}
    (partial / "files.json").write_text(json.dumps(dict(sorted(known.items())), indent=2) + "\n")
    sync(partial / "files.json")
    sync(partial)
    if is_pinned(final):
        pin(partial)
    if final.exists():  # what is not whole, or was saved with another state
        os.replace(final, partial.with_suffix(".replaced"))
    replace_atomically(partial, final)
    shutil.rmtree(partial.with_suffix(".replaced"), ignore_errors=True)
