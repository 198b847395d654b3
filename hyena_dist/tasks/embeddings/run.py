"""`probe`: how much of the labels simple classifiers read from a frozen model's embeddings, and from k-mers."""

import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import torch

from hyena_dist.config.task_data import TaskData
from hyena_dist.errors import UserError
from hyena_dist.inference.hidden import layer_numbers
from hyena_dist.inference.load import Model, load_here
from hyena_dist.system.launch import launch_environment
from hyena_dist.tasks.embeddings.classifiers import check_classifiers, in_words
from hyena_dist.tasks.embeddings.features import Features, check_pools, pooled_states
from hyena_dist.tasks.embeddings.held_out import Outcome, Plan, best_inside, plan, predict
from hyena_dist.tasks.embeddings.picture import draw
from hyena_dist.tasks.embeddings.report import Probed, write_report
from hyena_dist.tasks.floors.features import kmer_frequencies
from hyena_dist.tasks.labelled import LabelledData
from hyena_dist.tasks.leaks import find_leaks
from hyena_dist.tasks.predictions import Predictions
from hyena_dist.tasks.readers import read_labelled

MODEL = "embeddings"
"""The name of the model's features beside those of k-mers."""


class Probe(NamedTuple):
    """Options of a probe: what is read of each sequence, by which classifiers, and how it is tested."""

    layers: Sequence[int] | None = (-1,)
    """Layers whose states stand side by side, as `embed` takes them; None for all."""
    pools: Sequence[str] = ("mean",)
    """`mean`, and perhaps `std` beside it: the standard deviation over the bases."""
    strands: str = "one"
    """`one`, `both` (averaged) or `concat`."""
    max_bases: int | None = None
    """How many bases of each sequence are read, from its start; all if not given. K-mers see the same."""
    kmers: Sequence[int] = (5,)
    """Lengths of the words whose frequencies are the floor."""
    classifiers: Sequence[str] = ("logistic", "trees")
    folds: int | None = None
    """Folds that all sequences are dealt to; if not given, test is predicted from train and valid."""
    seed: int = 0
    max_tokens_per_batch: int = 2**16


def probe(
    data: LabelledData | TaskData,
    model: Model,
    out: str | Path,
    options: Probe | None = None,
    *,
    name: str = "",
    device: str = "cpu",
    dtype: torch.dtype | None = None,
    modulation_shift: float | None = None,
) -> Probed:
    """Classify embeddings, and k-mer frequencies beside them, and write a folder that tells how well that went.

    The folder gets report.md, probe.json, predictions of each classifier in Parquet, tsne.png with its CSV, and
    embeddings-mean.zarr, which the same command finds there when it is run again.

    Args:
        data: labelled sequences, or where they are.
        model: a model, or what `load` takes.
        out: the folder, made if need be.
        options: what is read, classified and tested; the defaults of Probe if not given.
        name: what the report calls the set.
        device: where a model is loaded to.
        dtype: the type that a model is cast to when it is loaded.
        modulation_shift: shift of the filters' decay, which published files do not store; see `load_published`.

    Raises:
        UserError: a mistake in any of these, before the work begins.
    """
    options = options or Probe()
    if (size := launch_environment().world_size) > 1:
        raise UserError(f"probe is started on {size} processes and runs on one; start it without a launcher")
    check_classifiers(options.classifiers)
    check_pools(options.pools)
    labelled = data if isinstance(data, LabelledData) else read_labelled(data)
    planned = plan(labelled, options.folds, options.max_bases, options.seed)
    loaded = load_here(model, device, dtype, modulation_shift)
    if options.layers is not None:
        layer_numbers(options.layers, loaded.config.n_layer)  # refuses others before there is a folder
    folder = Path(out)
    folder.mkdir(parents=True, exist_ok=True)
    states = pooled_states(
        loaded,
        planned.examples,
        folder,
        layers=options.layers,
        pools=options.pools,
        strands=options.strands,
        max_tokens_per_batch=options.max_tokens_per_batch,
    )
    draw(states, planned.examples.labels, labelled.classes, planned.examples.names, folder / "tsne.png", options.seed)
    outcomes: dict[str, Mapping[str, Outcome]] = {}
    for kind, features in _features(states, planned, options):
        outcomes[kind] = dict(_outcomes(kind, features, planned, len(labelled.classes), options))
    best = {
        "model": best_inside(planned, list(outcomes[MODEL].values())),
        "floor": best_inside(planned, [o for kind, found in outcomes.items() if kind != MODEL for o in found.values()]),
    }
    flat = {f"{kind}, {in_words(by)}": outcome for kind, found in outcomes.items() for by, outcome in found.items()}
    probed = Probed(
        name or "a probe",
        labelled,
        len(planned.tested),
        {each: _predictions(labelled, planned, outcome) for each, outcome in flat.items()},
        {each: _predictions(labelled, planned, outcome) for each, outcome in best.items()},
        {each: outcome.inner for each, outcome in flat.items()},
        {each: outcome.settings for each, outcome in flat.items()},
        None if options.folds else find_leaks(labelled)["test"],
        {**options._asdict(), "layers": "all" if options.layers is None else list(options.layers)},
    )
    write_report(folder, probed)
    return probed


def _features(states: Features, planned: Plan, options: Probe) -> Iterator[tuple[str, Features]]:
    yield MODEL, states
    for k in options.kmers:
        yield f"{k}-mers", kmer_frequencies(planned.examples, k)


def _outcomes(
    kind: str, features: Features, planned: Plan, classes: int, options: Probe
) -> Iterator[tuple[str, Outcome]]:
    for classifier in options.classifiers:
        start = time.monotonic()
        outcome = predict(classifier, features, planned, classes, options.seed)
        mean = sum(outcome.inner) / len(outcome.inner)
        print(
            f"{kind} ({features.shape[1]:,}), {classifier}: macro F1 inside train {mean:.3f}, "
            f"{time.monotonic() - start:.0f} s",
            flush=True,
        )
        yield classifier, outcome


def _predictions(data: LabelledData, planned: Plan, outcome: Outcome) -> Predictions:
    tested = planned.examples.take(planned.tested)
    return Predictions(data.kind, data.classes, tested.names, tested.labels, outcome.scores)
