"""The verb `hyena-dist generate`, which imports what it needs when it runs."""

import argparse
from pathlib import Path

from hyena_dist.verbs import not_negative, positive, verb


def add_arguments(verbs: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Add the verb to the command line."""
    generate = verb(
        verbs,
        "generate",
        "new sequences of A, C, G and T, base by base",
        _generate,
        "hyena-dist generate --model runs/first --prompt ACGTTGCA --length 2000\n"
        "  hyena-dist generate --model M --prompts genes.fa -n 32 --temperature 0.8 --seed 1 --out new.fa",
    )
    generate.add_argument(
        "--model", type=Path, required=True, metavar="M", help="a run, checkpoint or published folder"
    )
    prompt = generate.add_mutually_exclusive_group()
    prompt.add_argument("--prompt", default="", metavar="BASES", help="what to continue; else a random base begins")
    prompt.add_argument("--prompts", type=Path, metavar="FASTA", help="continue each of these sequences")
    generate.add_argument("--length", type=positive, default=500, metavar="N", help="new bases (default: %(default)s)")
    generate.add_argument("-n", type=positive, default=1, metavar="N", help="sequences for each prompt (%(default)s)")
    generate.add_argument(
        "--temperature", type=float, default=1.0, metavar="X", help="0: the likeliest base (default: %(default)s)"
    )
    generate.add_argument("--top-k", type=int, default=4, metavar="N", help="of the likeliest bases (%(default)s)")
    generate.add_argument(
        "--top-p", type=float, default=1.0, metavar="P", help="the likeliest, up to this probability (%(default)s)"
    )
    generate.add_argument("--max-run", type=positive, metavar="N", help="a base comes at most N times in a row")
    generate.add_argument("--no-repeat", type=int, metavar="N", help="no N bases in a row come twice")
    generate.add_argument("--seed", type=not_negative, default=0, metavar="N", help="default: %(default)s")
    generate.add_argument("--with-prompt", action="store_true", help="write the prompt before the new bases")
    generate.add_argument("--batch", type=positive, metavar="N", help="at once; default: as 1 GiB holds, at most 64")
    generate.add_argument(
        "--out", type=Path, metavar="FILE", help="x.fa; else to the terminal, base by base if one at a time"
    )
    generate.add_argument("--device", choices=("cpu", "cuda"), default="cpu", help="default: %(default)s")
    generate.add_argument(
        "--dtype", choices=("fp32", "bf16"), default="fp32", help="of weights and activations (default: %(default)s)"
    )
    generate.add_argument("--modulation-shift", type=float, metavar="X", help="for published models: 0.05 or 0.0")


def _generate(args: argparse.Namespace) -> None:
    import sys

    from hyena_dist.inference.generate import generate
    from hyena_dist.ops.precision import DTYPES

    generate(
        args.model,
        args.prompts or args.prompt,
        length=args.length,
        n=args.n,
        temperature=args.temperature,
        top_k=args.top_k,
        top_p=args.top_p,
        max_run=args.max_run,
        no_repeat=args.no_repeat,
        seed=args.seed,
        with_prompt=args.with_prompt,
        batch=args.batch,
        out=args.out or sys.stdout,
        device=args.device,
        dtype=DTYPES[args.dtype],
        modulation_shift=args.modulation_shift,
    )
    if args.out:
        print(f"wrote {args.out}")
