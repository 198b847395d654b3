"""Labelled windows of species: whose they are, how many of each, and what cannot be scored."""

import csv
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
import torch

from hyena_dist.data.store import GenomeStore
from hyena_dist.data.tokenizer import reverse_complement
from hyena_dist.parallel.mesh import Mesh
from hyena_dist.tasks.resolve import complete
from hyena_dist.tasks.species.batches import SpeciesReader
from hyena_dist.tasks.species.objective import SpeciesClassification, open_species
from hyena_dist.tasks.species.report import plot_accuracy
from hyena_dist.tasks.species.windows import held_out_windows
from tests.configs import refusal
from tests.species import SPECIES, species_run, write_species


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_species(tmp_path_factory.mktemp("species"))


def test_a_window_is_of_the_species_that_labels_it(store: Path, tmp_path: Path) -> None:
    """Windows come from either strand of the training split, and as many from each species."""
    config = species_run(store, tmp_path, "run")
    opened = GenomeStore.open(str(store))
    data = config.data.model_copy(update={"species_weights": dict.fromkeys(SPECIES, 1.0)})
    read = SpeciesReader(opened, SPECIES, config.stages(1), data, seed=0, mesh=Mesh())
    genomes = [opened.read(contig, 0, 5_400) for contig in opened.contigs]  # the first 60 % train
    strands = [[strand.tobytes() for strand in (genome, reverse_complement(genome))] for genome in genomes]
    seen: Counter[int] = Counter()
    for step in range(12):
        batch = read(step)
        assert batch.weight == 8
        for micro in batch.micro_batches:
            assert micro.tokens.shape[1] == batch.stage.seq_length == micro.lengths[0]
            seen.update(micro.labels.tolist())
            for tokens, label in zip(micro.tokens.numpy(), micro.labels.tolist(), strict=True):
                assert any(tokens.tobytes() in strand for strand in strands[label])
    assert max(seen.values()) - min(seen.values()) < 24
    assert torch.equal(read(3).micro_batches[0].tokens, read(3).micro_batches[0].tokens)


def test_held_out_windows(store: Path) -> None:
    """Windows tile the split, each species alike, and a bound thins them out evenly."""
    opened = GenomeStore.open(str(store))
    whole = held_out_windows(opened, SPECIES, "test", 64, 10**9)
    assert whole is not None
    assert np.bincount(whole.labels).tolist() == [28, 28, 28], "1,800 bases of each"
    assert whole.names[:2] == ["ape.chr1:7200-7264", "ape.chr1:7264-7328"]
    assert whole.read(1).tolist() == opened.read("ape.chr1", 7264, 7328).tolist()
    some = held_out_windows(opened, SPECIES, "test", 64, 64 * 3 * 5)
    assert some is not None
    assert np.bincount(some.labels).tolist() == [5, 5, 5]
    assert set(some.names) < set(whole.names)


def test_what_cannot_be_scored(store: Path, tmp_path: Path) -> None:
    opened = GenomeStore.open(str(store))
    assert "no window of 2,000 bases of ape" in refusal(lambda: held_out_windows(opened, SPECIES, "test", 2_000, 10**9))
    weights = {"species_weights": {"ape": 1, "dog": 1}}
    config = species_run(store, tmp_path, "run", data=weights)
    assert "names 'dog', which" in refusal(lambda: SpeciesClassification(config))
    alone = species_run(store, tmp_path, "run", data={"species_weights": {"ape": 1}})
    assert "one species alone" in refusal(lambda: SpeciesClassification(alone))


def test_no_store_of_species(store: Path, small_store: Path) -> None:
    assert "has no species; build it with labels" in refusal(lambda: open_species(small_store))
    said = refusal(lambda: open_species(store.parent))
    assert f"hyena-dist data build ape={store.parent / 'ape.fa'} bat=" in said


def test_windows_have_no_epochs(store: Path) -> None:
    task = {"data": {"path": str(store), "format": "species"}}
    assert "no train.curriculum" in refusal(lambda: complete({"task": task}, "task.yaml"))


def test_plot(tmp_path: Path) -> None:
    columns = ("windows", "accuracy", "accuracy_low", "accuracy_high", "balanced_accuracy", "mcc")
    contexts = {
        str(length): {"test": dict(zip(columns, (9, a, a - 0.1, a + 0.1, a, a), strict=True))}
        for length, a in ((256, 0.5), (1024, 0.75))
    }
    plot_accuracy(contexts, tmp_path / "accuracy.png")
    assert (tmp_path / "accuracy.png").read_bytes().startswith(b"\x89PNG")
    with (tmp_path / "accuracy.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [(row["context_length"], row["split"], row["accuracy"]) for row in rows] == [
        ("256", "test", "0.5"),
        ("1024", "test", "0.75"),
    ]
