"""Frozen embeddings of a model on labelled sets, beside k-mers and the figures that others published for HyenaDNA.

An outside anchor, not a target: the study's checkpoint and classifier are not known here, and of the yeast sets a fifth
of the train rows is at hand.
"""

from pathlib import Path
from typing import Any, NamedTuple

from hyena_dist.bench.record import record
from hyena_dist.config.task_data import TaskData
from hyena_dist.errors import UserError
from hyena_dist.inference.load import load
from hyena_dist.system.files import write_atomically
from hyena_dist.tasks.bootstrap import Interval
from hyena_dist.tasks.embeddings.run import Probe, probe
from hyena_dist.tasks.metrics import measure

SOURCE = "Nature Communications 2025, s41467-025-65823-8"
"""The study that gives the AUC of frozen mean embeddings of a published HyenaDNA."""


class ProbeSet(NamedTuple):
    """A set of two classes, and its published figure."""

    path: str
    """The file or folder, in the folder of all sets."""
    published_auc: float


SETS = {
    "gue_mouse_0": ProbeSet("gue_mouse_0", 0.590),
    "gue_prom_300_tata": ProbeSet("gue_prom_300_tata", 0.808),
    "nt_histone_H3": ProbeSet("nt_histone/H3.csv.gz", 0.900),
    "nt_histone_H4": ProbeSet("nt_histone/H4.csv.gz", 0.898),
    "gue_tf_0": ProbeSet("gue_tf_0", 0.830),
    "gue_prom_core_all": ProbeSet("gue_prom_core_all", 0.832),
}
COLUMNS = ("set", "tested", "auc", "auc_low", "auc_high", "kmer_auc", "kmer_auc_low", "kmer_auc_high", "published_auc")


class ProbeCase(NamedTuple):
    """A model, where the sets are, and how they are probed."""

    model: Path
    data: Path
    """The folder of the labelled sets."""
    work: Path
    """The folder of the reports of each set; embeddings that are there are not computed again."""
    sets: tuple[str, ...]
    """Names of SETS; empty for all."""
    options: Probe
    modulation_shift: float | None


def bench_probe(case: ProbeCase, out: Path | None) -> None:
    """Print, and write to `out` as CSV, JSON and Markdown, the AUC of embeddings and of k-mers on each set.

    Raises:
        UserError: a set that there is not, no data, or what `probe` refuses.
    """
    if unknown := set(case.sets) - set(SETS):
        raise UserError(f"there is no set {min(unknown)}; choose of {', '.join(SETS)}")
    chosen = {name: SETS[name] for name in case.sets or SETS}
    for name, each in chosen.items():
        if not (case.data / each.path).exists():
            raise UserError(
                f"there is no {case.data / each.path}; name the folder of the labelled sets, or leave {name} out"
            )
    model = load(case.model, modulation_shift=case.modulation_shift)
    rows: list[tuple[object, ...]] = []
    for name, each in chosen.items():
        print(f"{name}:", flush=True)
        data = TaskData(path=str(case.data / each.path))
        found = probe(data, model, case.work / name, case.options, name=name)
        ours, floor = (measure(found.best[kind])["auroc"] for kind in ("model", "floor"))
        rows.append((name, found.tested, *ours, *floor, each.published_auc))
    table = _markdown(rows)
    print(table)
    if out is not None:
        options = {**case.options._asdict(), "d_model": model.config.d_model, "n_layer": model.config.n_layer}
        record(out, "probe", COLUMNS, rows, {"published": SOURCE, **options})
        write_atomically(out / "probe.md", table + "\n")


def _markdown(rows: list[tuple[Any, ...]]) -> str:
    lines = [
        f"AUC of frozen mean embeddings, 95 % intervals; published: {SOURCE}.",
        "",
        "| set | tested | embeddings | k-mers | published HyenaDNA |",
        "|---|---|---|---|---|",
    ]
    for name, tested, *numbers in rows:
        ours, floor = (Interval(*numbers[at : at + 3]) for at in (0, 3))
        cells = (f"{each.value:.3f} ({each.low:.3f} to {each.high:.3f})" for each in (ours, floor))
        lines.append(f"| {name} | {tested:,} | {' | '.join(cells)} | {numbers[-1]:.3f} |")
    return "\n".join(lines)
