"""The build of a store: inputs become parts, in parallel, which are then put together."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from data_prep import ingest
from data_prep.assemble import Form, assemble, finish
from data_prep.damage import check_sizes
from data_prep.inputs import Input, Rename, parse_inputs
from data_prep.output import existing_manifest
from data_prep.partial import PartialFolder
from data_prep.splits import BlockSplits, SplitPlan
from data_prep.workers import run_tasks
from hyena_dist.data.store.manifest import STORE_FORMAT, VERSION
from hyena_dist.data.text.files import describe_file
from hyena_dist.errors import UserError
from hyena_dist.system.processes import usable_cores
from hyena_dist.system.urls import check_local
from hyena_dist.tracking.work_progress import Say, WorkProgress


class _SameNameError(UserError):
    """An error that says that two inputs have a contig of the same name, so that the build can never be finished."""


@dataclass(frozen=True)
class BuildOptions:
    """All that, besides the sequences, decides a store's content.

    Attributes:
        splits: how train, valid and test are chosen.
        soft_mask: whether to keep which bases were lower-case.
        interval_length: bases in an interval, the unit of sampling, where the splits are not from BED files.
        rename: other names for contigs; None keeps those of the input.
        codec: how tokens are stored, of CODECS.

    Raises:
        UserError: The interval length is too small.
    """

    splits: SplitPlan = field(default_factory=BlockSplits)
    soft_mask: bool = False
    interval_length: int = 2**17
    rename: Rename | None = None
    codec: str = "packed"

    def __post_init__(self) -> None:
        if self.interval_length < 2:
            raise UserError(f"interval length {self.interval_length} has no next token to predict; use 2 bases or more")

    def describe(self) -> dict[str, Any]:
        """Return the options as JSON, for the manifest."""
        return {
            "splits": self.splits.describe(),
            "soft_mask": self.soft_mask,
            "interval_length": self.interval_length,
            "rename": self.rename and self.rename.describe(),
            "codec": self.codec,
        }


def build_store(
    fastas: Sequence[Path | str],
    out: Path,
    options: BuildOptions | None = None,
    *,
    overwrite: bool = False,
    processes: int | None = None,
    command: str = "",
    say: Say = print,
) -> bool:
    """Build the store `out` from FASTA and 2bit files.

    Work goes into a folder beside `out`, `<out>.partial`, which becomes `out` when it is complete, so that `out` is
    always either what it was or a whole store. After an interruption the same call goes on where it was.

    Args:
        fastas: FASTA files (plain, gzip or bgzip) and UCSC 2bit files, all or none written as "species=path".
        out: folder of the store; it must be absent or empty, or a store built from the same input.
        options: all else that decides the content; None takes the defaults.
        overwrite: whether to replace `out` if it is a store, and to discard an unfinished build of something else. Any
            other content of `out` is never replaced.
        processes: how many processes work at a time; as many as there are cores by default.
        command: the command that asked for the store, for the manifest.
        say: receives lines of text for the user.

    Returns:
        True if the store was built, False if `out` was already built from the same sequences with the same options.

    Raises:
        UserError: The input is bad, `out` holds something else, another build is at work, or no space is left.
    """
    options = options or BuildOptions()
    inputs = parse_inputs(fastas)
    described = options.describe()  # reads BED files, so that a bad one is noticed before the long work
    check_local(out)
    out = out.resolve()
    partial = PartialFolder(out)

    def is_built() -> bool:
        """Tell whether `out` is this store already, and raise UserError if it is another one."""
        existing = existing_manifest(out)
        if not existing or overwrite:
            return False
        _check_existing(out, existing, described, inputs)
        say(f"{out} is already built from the same input with the same options: kept")
        return True

    if is_built():  # without the lock, since a store that is there may be in a folder that nobody may write to
        partial.clean()
        return False
    try:
        with partial.locked():
            if is_built():  # by a build that this one has waited for
                return False
            plan = {
                "inputs": [each.describe() for each in inputs],
                "soft_mask": described["soft_mask"],
                "rename": described["rename"],
                "codec": described["codec"],
                "version": VERSION,
            }
            partial.begin(plan, discard=overwrite, say=say)
            try:
                content = _ingest(inputs, partial, options, processes or usable_cores(), say)
                finish(partial, out, {"command": command, "options": described, **content}, overwrite=overwrite)
            except _SameNameError:
                partial.remove()
                raise
    except OSError as error:
        kept = f"what is finished is kept in {partial.folder}" if partial.folder.exists() else "nothing was changed"
        raise UserError(
            f"{out} cannot be written ({error.strerror or error}), and {kept}; free some space and run the same "
            f"command again, or choose another folder with --out"
        ) from error
    say(f"built {out}")
    return True


def _check_existing(out: Path, existing: dict[str, Any], described: dict[str, Any], inputs: Sequence[Input]) -> None:
    """Raise UserError unless `out` is a complete store, built from these inputs with these options.

    Args:
        out: folder of the store.
        existing: its manifest.
        described: options that it must have been built with, as the manifest has them.
        inputs: files that it must have been built from.
    """
    if existing["format"] != STORE_FORMAT:
        raise UserError(f"{out} holds shards; choose another folder with --out, or replace it with --overwrite")
    for key, value in described.items():
        if existing["options"].get(key) != value:
            raise UserError(
                f"{out} holds a store built with {key} {existing['options'].get(key)!r} instead of {value!r}; "
                f"choose another folder with --out, or replace it with --overwrite"
            )
    with WorkProgress("hashing input", sum(each.bytes for each in inputs), "bytes") as progress:
        wanted = [(describe_file(each.path, progress.advance)["sha256"], each.species) for each in inputs]
    if wanted != [(source["sha256"], source["species"]) for source in existing["sources"]]:
        names = ", ".join(source["name"] for source in existing["sources"])
        raise UserError(
            f"{out} holds a store built from other sequences ({names}); "
            f"choose another folder with --out, or replace it with --overwrite"
        )
    check_sizes(out, existing)


def _ingest(
    inputs: Sequence[Input], partial: PartialFolder, options: BuildOptions, processes: int, say: Say
) -> dict[str, Any]:
    """Write everything but the manifest into `partial.store`, and return what the manifest says about the content."""
    tasks = ingest.tasks_of(
        inputs, partial.parts, soft_mask=options.soft_mask, codec=options.codec, rename=options.rename
    )
    if not partial.is_complete:
        _run_tasks(tasks, processes)
    form = Form(options.soft_mask, options.codec, options.interval_length)
    return assemble([task.part for task in tasks], partial, form, ingest.species_of(inputs), options.splits, say)


def _run_tasks(tasks: Sequence[ingest.Task], processes: int) -> None:
    """Read all inputs into parts, show the progress, and refuse two contigs of the same name."""
    origin: dict[str, Path] = {}  # which input each contig is in
    total = max(1, sum(task.bytes for task in tasks))
    done = 0
    with WorkProgress("reading") as progress:

        def on_report(kind: str, *content: Any) -> None:
            nonlocal done
            if kind == "block":
                bases, size = content
                done += size
                progress.advance(bases, min(1.0, done / total))
                return
            path, names = content
            for name in names:
                if name in origin:
                    raise _same_name(name, origin[name], path)
                origin[name] = path

        # The largest task starts first, so that no process is left alone with it at the end.
        run_tasks(ingest.run, sorted(tasks, key=lambda task: -task.bytes), processes, on_report)


def _same_name(name: str, path: Path, other: Path) -> _SameNameError:
    """Return the error for a name that two records have, in one input or in two."""
    if path == other:
        return _SameNameError(
            f"record name {name!r} occurs a second time in {path}, and names must be unique; rename or remove one"
        )
    return _SameNameError(
        f"record name {name!r} is in {path} and in {other}, and names must be unique; label the "
        f"inputs, as in human={path}, or use --rename FILE"
    )
