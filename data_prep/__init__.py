"""The tools that make a genome store of FASTA and 2bit files, and that verify it and look into it.

hyena_dist.data reads what they write. cli.py has the commands; README.md specifies the formats.
"""

from importlib import resources
from pathlib import Path


def demo_corpus() -> Path:
    """Return the path of the embedded demo corpus, a gzip FASTA with 5 Mb of human chr20 (see corpus/ORIGIN.md)."""
    return Path(str(resources.files(__name__) / "corpus" / "human_chr20_30-35Mb.GRCh37.fa.gz"))
