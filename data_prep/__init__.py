"""From FASTA files to a store that hyena_dist.data reads: build, verify, stats."""

from importlib import resources
from pathlib import Path


def demo_corpus() -> Path:
    """Path of the embedded demo corpus: a gzip FASTA with 5 Mb of human chr20 (corpus/ORIGIN.md says more)."""
    return Path(str(resources.files(__name__) / "corpus" / "human_chr20_30-35Mb.GRCh37.fa.gz"))
