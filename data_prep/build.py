"""The build of a store: inputs become arrays, in parallel, then the splits are decided and the manifest written."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from data_prep import ingest
from data_prep.damage import check_sizes
from data_prep.inputs import Input, Rename, parse_inputs
from data_prep.output import check_replaceable, existing_manifest
from data_prep.partial import PartialFolder, PartJournal, write_json
from data_prep.splits import BlockSplits, SplitPlan, assign
from data_prep.twins import warn_of_twins
from data_prep.workers import run_tasks
from data_prep.zarr_metadata import write_groups
from hyena_dist.data.store.manifest import MANIFEST, STORE_FORMAT, VERSION, ZARR
from hyena_dist.data.text.files import describe_file
from hyena_dist.data.tokenizer import VOCAB
from hyena_dist.errors import UserError
from hyena_dist.system.files import sync
from hyena_dist.system.processes import usable_cores
from hyena_dist.system.urls import check_local
from hyena_dist.tracking.work_progress import Say, WorkProgress

_MOST_AMBIGUOUS = 0.1
"""Share of ambiguity codes above which a contig may be protein; assemblies have far below a thousandth."""


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

    Raises:
        UserError: The interval length is too small.
    """

    splits: SplitPlan = field(default_factory=BlockSplits)
    soft_mask: bool = False
    interval_length: int = 2**17
    rename: Rename | None = None

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
                "version": VERSION,
            }
            partial.begin(plan, discard=overwrite, say=say)
            try:
                content = _ingest(inputs, partial, options, processes or usable_cores(), say)
                manifest = {
                    "format": STORE_FORMAT,
                    "version": VERSION,
                    "command": command,
                    "created": datetime.now(UTC).isoformat(timespec="seconds"),
                    "tokenizer": VOCAB,
                    "options": described,
                    **content,
                }
                write_json(partial.store / MANIFEST, manifest)
                check_replaceable(out, overwrite)
                partial.install()
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
    tasks = ingest.tasks_of(inputs, partial.parts, soft_mask=options.soft_mask, rename=options.rename)
    if not partial.is_complete:
        _run_tasks(tasks, processes)
    records = [(task.part, record) for task in tasks for record in PartJournal(task.part).read()]
    contigs = [record["contig"] for _, record in records if "contig" in record]
    lengths = {contig["name"]: contig["length"] for contig in contigs}
    say(f"{len(contigs)} contigs, {sum(lengths.values()):,} bases")
    _warn_of_protein([record for _, record in records if "contig" in record], say)

    species = list(dict.fromkeys(each.species for each in inputs if each.species))
    splits, intervals = assign(options.splits, lengths, options.interval_length)
    split_species = {contig["name"]: contig["species"] for contig in contigs}
    for name in species:
        if not any(split_species[region.contig] == name for regions in splits.values() for region in regions):
            raise UserError(f"species {name!r} is in no interval; add --bed {name}=FILE, or leave its input out")
    sizes = {split: sum(region.end - region.start for region in regions) for split, regions in splits.items()}
    say(", ".join(f"{split} {sizes[split]:,} bases in {len(splits[split])} regions" for split in splits))
    warn_of_twins(contigs, splits, say)

    zarr = partial.store / ZARR
    zarr.mkdir(parents=True, exist_ok=True)
    partial.complete()
    for part, record in records:
        _move_arrays(part, zarr, record["files"])
    files = {path: described for _, record in records for path, described in record["files"].items()}
    files |= write_groups(zarr, soft_mask=options.soft_mask)
    for folder in (zarr, *zarr.iterdir()):
        sync(folder)
    return {
        "sources": [record["source"] for _, record in records if record.get("source")],
        "species": species,
        "contigs": contigs,
        "splits": splits,
        "intervals": intervals,
        "zarr": {"path": ZARR, "files": dict(sorted(files.items()))},
    }


def _warn_of_protein(records: Sequence[dict[str, Any]], say: Say) -> None:
    """Say which contigs can hardly be nucleotides, since protein may happen to have letters of IUPAC codes alone."""
    odd = [each for each in records if each.get("ambiguous", 0) > _MOST_AMBIGUOUS * each["contig"]["length"]]
    if odd:
        contig = odd[0]["contig"]
        more = f", like {len(odd) - 1} more" if len(odd) > 1 else ""
        say(
            f"warning: contig {contig['name']!r} is {odd[0]['ambiguous'] / contig['length']:.0%} ambiguity codes "
            f"(RYSWKMBDHV), which become N, and may be protein{more}; leave protein out of the input"
        )


def _move_arrays(part: Path, zarr: Path, files: Iterable[str]) -> None:
    """Move the arrays that `files` are of, "contigs/NAME/..." or "soft_mask/NAME/...", from a part to the store.

    Arrays that an interrupted build has moved already are left where they are.
    """
    arrays = dict.fromkeys("/".join(path.split("/")[:2]) for path in files)
    for array in arrays:
        if (part / array).exists():
            (zarr / array).parent.mkdir(exist_ok=True)
            (part / array).rename(zarr / array)


def _run_tasks(tasks: Sequence[ingest.Task], processes: int) -> None:
    """Read all inputs into arrays, show the progress, and refuse two contigs of the same name."""
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
            else:
                path, name = content
                if name in origin:
                    raise _SameNameError(
                        f"record name {name!r} is in {origin[name]} and in {path}, and names must be unique; label the "
                        f"inputs, as in human={origin[name]}, or use --rename FILE"
                    )
                origin[name] = path

        # The largest task starts first, so that no process is left alone with it at the end.
        run_tasks(ingest.run, sorted(tasks, key=lambda task: -task.bytes), processes, on_report)
