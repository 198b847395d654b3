"""The verb `hyena-dist embed`, which imports what it needs when it runs."""

import argparse

from hyena_dist.errors import UserError
from hyena_dist.inference.arguments import add_common_arguments, model_options, say_written
from hyena_dist.verbs import positive, verb

_ABOUT = """
layers: 0 is the embedding, i follows block i, and the last (-1) follows the final norm, as in Hugging Face's
output_hidden_states. Lists that begin with a minus need an equals sign: --layers=-1,-3.

pools: the model is causal, so that a position has seen what is before it and nothing after it. The mean and the max
over A, C, G and T see all of the sequence; the last position has seen all, the first its own base alone. With both
strands, each is pooled as it was read, and bins of the other strand are turned back before the two are joined.

storage: fp32 is exact. bf16 keeps 8 significant bits, fp16 11. Where you will subtract embeddings, as of a reference
and an alternative sequence, store fp32: 16 bits lose the small difference (measured: a correlation of .82 is left).

files: x.zarr has the arrays names, lengths, offsets and layers/8, whose rows offsets[i] to offsets[i + 1] are those of
sequence i. x.parquet has a row for each vector: name, start, end, layer_8. A job that was killed goes on where it was.
AnnData (a package with needs of its own) from pooled Parquet, in three lines:
  table = pandas.read_parquet("x.parquet")
  data = anndata.AnnData(numpy.stack(table["layer_8"]), obs=table[["name"]])
  data.write_h5ad("x.h5ad")
"""


def add_arguments(verbs: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Add the verb to the command line."""
    embed = verb(
        verbs,
        "embed",
        "hidden states of sequences, per base, per bin or pooled, in Zarr or Parquet",
        _embed,
        "hyena-dist embed genes.fa.gz --model runs/first --out genes.zarr\n"
        "  hyena-dist embed peaks.bed --genome hg38.fa --model M --layers 4,8 --strands both --out peaks.parquet\n"
        "  torchrun --nproc_per_node 8 -m hyena_dist embed chr20.fa --model M --bin-size 128 --out chr20.zarr\n"
        + _ABOUT,
    )
    add_common_arguments(embed, "x.zarr or x.parquet")
    embed.add_argument(
        "--layers", type=parse_layers, default="-1", metavar="N,N", help="or all (default: -1, the last)"
    )
    rows = embed.add_mutually_exclusive_group()
    rows.add_argument(
        "--pool", choices=("mean", "max", "last", "first"), default="mean", help="a row for each sequence (mean)"
    )
    rows.add_argument(
        "--bin-size", type=positive, metavar="N", help="a row for each N bases, their mean; 1 for each base"
    )
    embed.add_argument(
        "--strands",
        choices=("one", "both", "concat"),
        default="one",
        help="the given one, both averaged, or both side by side (default: %(default)s)",
    )
    embed.add_argument("--store", choices=("fp32", "bf16", "fp16"), default="fp32", help="default: %(default)s")


def parse_layers(text: str) -> tuple[int, ...] | None:
    """Return the numbers of a text such as 4,-1; None for all.

    Raises:
        UserError: the text is no list of whole numbers.
    """
    if text == "all":
        return None
    try:
        return tuple(int(number) for number in text.split(","))
    except ValueError:
        raise UserError(f"--layers {text} is not a list of numbers; try -1, or 4,8, or all") from None


def _embed(args: argparse.Namespace) -> None:
    from hyena_dist.inference.embed import embed

    embed(
        args.model,
        args.sequences,
        out=args.out,
        genome=args.genome,
        layers=args.layers,
        pool=args.pool,
        bin_size=args.bin_size,
        strands=args.strands,
        store=args.store,
        **model_options(args),
    )
    say_written([args.out])
