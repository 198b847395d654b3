"""The conversion of a store of format 2 to the present format, with the same sequences, splits and fingerprint."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from data_prep.assemble import Form, assemble, finish
from data_prep.old_store import OldStore
from data_prep.output import existing_manifest
from data_prep.part import PartWriter, is_whole, read_contigs, read_done
from data_prep.partial import PartialFolder
from data_prep.splits import Splits
from data_prep.workers import Report, grouped, run_tasks
from hyena_dist.data.store import manifest
from hyena_dist.data.store.contigs import Contigs
from hyena_dist.data.store.manifest import SPLITS, VERSION
from hyena_dist.data.store.ranges import Regions
from hyena_dist.errors import UserError
from hyena_dist.system.processes import usable_cores
from hyena_dist.system.urls import check_local
from hyena_dist.tracking.work_progress import Say, WorkProgress


@dataclass(frozen=True)
class _Task:
    """The conversion of some contigs.

    Attributes:
        part: folder of the part.
        store: the old store.
        contigs: their entries in its manifest.
    """

    part: Path
    store: OldStore
    contigs: list[dict[str, Any]]


class _SameSplits:
    """A plan that takes the intervals from the manifest of an old store."""

    def __init__(self, old: dict[str, Any]) -> None:
        self._old = old

    def describe(self) -> dict[str, Any]:
        """Return how the store was split, as it was noted."""
        described: dict[str, Any] = self._old["options"]["splits"]
        return described

    def intervals(self, contigs: Contigs, length: int) -> Splits:
        """Return the intervals of the old store."""
        return {split: Regions.of(contigs, self._old["intervals"][split]) for split in SPLITS}


def convert_store(source: Path, out: Path, *, processes: int | None = None, say: Say = print) -> bool:
    """Convert a store of format 2.

    Work goes into `<out>.partial` and goes on there after an interruption, as that of a build does.

    Args:
        source: folder of the old store, which stays as it is.
        out: folder of the new one; it must be absent or empty, or the result of this already.
        processes: how many processes work at a time; as many as there are cores by default.
        say: receives lines of text for the user.

    Returns:
        True if the store was converted, False if that was done already.

    Raises:
        UserError: There is no such store or it is damaged, or `out` holds something else or cannot be written.
    """
    store = OldStore(source)
    old = store.manifest
    check_local(out)
    out = out.resolve()
    described = {**old["options"], "codec": "packed"}
    partial = PartialFolder(out)

    def is_converted() -> bool:
        """Tell whether `out` is the result already, and raise UserError if it is anything else."""
        existing = existing_manifest(out)
        if not existing:
            return False
        if (existing["sources"], existing["options"]) != (old["sources"], described):
            raise UserError(f"{out} holds another store than {source}; choose another folder with --out")
        say(f"{out} is already converted: kept")
        return True

    try:
        with partial.locked():
            if is_converted():
                return False
            inputs = [{"species": None, "name": source.name}]
            plan = {"inputs": inputs, "convert": [old["created"], old["sources"], described], "version": VERSION}
            partial.begin(plan, discard=False, say=say)
            groups = grouped(old["contigs"], lambda contig: contig["length"], manifest.ZARR_SHARD)
            tasks = [_Task(partial.parts / str(number), store, contigs) for number, contigs in enumerate(groups)]
            if not partial.is_complete:
                with WorkProgress("converting", sum(contig["length"] for contig in old["contigs"])) as progress:
                    run_tasks(_convert, tasks, processes or usable_cores(), progress.advance)
            form = Form(store.has_soft_mask, "packed", old["options"]["interval_length"])
            content = assemble([task.part for task in tasks], partial, form, old["species"], _SameSplits(old), say)
            head = {"command": old["command"], "options": described}
            finish(partial, out, {**head, **content, "sources": old["sources"]}, overwrite=False)
    except OSError as error:
        raise UserError(
            f"{out} cannot be written ({error.strerror or error}); free some space and run the same command again, or "
            f"choose another folder with --out"
        ) from error
    say(f"converted {source} to {out}")
    return True


def _convert(task: _Task, report: Report) -> None:
    """Write the contigs of a task into its part, unless it is there, and check them by the hashes that were noted."""
    done = read_done(task.part)
    if done and is_whole(task.part, done):
        report(done.bases)
    else:
        _write(task, report)
    for contig, row in zip(task.contigs, read_contigs(task.part), strict=True):
        masked = contig["soft_masked"] if task.store.has_soft_mask else 0
        if row["sha256"].tobytes().hex() != contig["sha256"] or int(row["soft_masked"]) != masked:
            raise UserError(
                f"contig {contig['name']!r} holds other bases than the manifest of the old store says; build the store "
                f"anew from its sequences"
            )


def _write(task: _Task, report: Report) -> None:
    """Write the contigs of a task into its part."""
    species = {name: number for number, name in enumerate(task.store.manifest["species"])}
    part = PartWriter(task.part, "packed", soft_mask=task.store.has_soft_mask)

    def watched(blocks: Iterator[bytes]) -> Iterator[bytes]:
        """Yield blocks, and report them once they are used."""
        for block in blocks:
            yield block
            report(len(block))

    for contig in task.contigs:
        part.write(contig["name"], species.get(contig["species"], -1), watched(task.store.blocks(contig)))
    part.close([], [])
