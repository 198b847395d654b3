"""The verb `hyena-dist evaluate`. It imports what it needs when it runs."""

import argparse
import json
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from hyena_dist.errors import UserError
from hyena_dist.verbs import numbers, output_file, output_folder, parse_lengths, positive, verb

if TYPE_CHECKING:
    from hyena_dist.data.store import GenomeStore
    from hyena_dist.parallel.world import World
    from hyena_dist.train.evaluation.held_out import HeldOut


def add_arguments(verbs: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Add the verb."""
    evaluate = verb(
        verbs,
        "evaluate",
        "held-out perplexity by context length, species, contig and position, beside Markov chains",
        _evaluate,
        "hyena-dist evaluate runs/demo --data runs/demo-data --lengths 256,1024,4096 --last 64 --same-bases\n"
        "  torchrun --nproc_per_node 8 -m hyena_dist evaluate runs/demo --data runs/demo-data --out evaluated",
    )
    evaluate.add_argument(
        "checkpoint", type=Path, metavar="CHECKPOINT", help="a checkpoint, run, published folder or file of weights"
    )
    evaluate.add_argument("--data", required=True, metavar="DIR", help="a store, or shards, which may be at a URL")
    evaluate.add_argument(
        "--lengths", type=parse_lengths, default="1024", metavar="N,N", help="context lengths (default: %(default)s)"
    )
    evaluate.add_argument(
        "--last", type=numbers("--last", "64,256"), default=[], metavar="K,K", help="also on each window's last K bases"
    )
    evaluate.add_argument("--split", choices=("valid", "test"), default="valid")
    evaluate.add_argument("--max-tokens", type=positive, default=1_000_000, metavar="N", help="targets per length")
    evaluate.add_argument(
        "--same-bases", action="store_true", help="every length scores the same targets, with more bases before them"
    )
    evaluate.add_argument("--modulation-shift", type=float, metavar="X", help="for published models: 0.05 or 0.0")
    evaluate.add_argument(
        "--precision", choices=("fp32", "bf16"), default="fp32", help="of activations (default: %(default)s)"
    )
    evaluate.add_argument("--device", choices=("cpu", "cuda"), help="a GPU if there is one, where not given")
    evaluate.add_argument("--json", type=output_file, metavar="FILE", help="also write the result here")
    evaluate.add_argument(
        "--out", type=output_folder, metavar="DIR", help="also write evaluation.json, and pictures with their CSV, here"
    )


def _evaluate(args: argparse.Namespace) -> None:
    from hyena_dist.data.store import GenomeStore

    store = GenomeStore.open(args.data)  # a wrong path is said before the seconds that torch takes
    if args.device == "cpu":
        os.environ["CUDA_VISIBLE_DEVICES"] = ""  # so that torch finds none, and any number of processes has its place
    import torch

    from hyena_dist.parallel.world import join_world, shutdown

    if args.device == "cuda" and not torch.cuda.is_available():
        raise UserError("--device cuda needs a GPU, and torch sees none; leave it out, or take cpu")
    world = join_world()
    try:
        found = _score(args, store, world)
    except UserError:
        shutdown()
        raise
    if world.is_main:
        _tell(args, store, found)
    shutdown()


def _score(args: argparse.Namespace, store: "GenomeStore", world: "World") -> "HeldOut":
    from hyena_dist.config.parallel import ParallelConfig
    from hyena_dist.ops.precision import precision_warning
    from hyena_dist.parallel.mesh import Mesh, build_mesh
    from hyena_dist.train.evaluation.held_out import evaluate, load_for_evaluation

    model = load_for_evaluation(
        args.checkpoint, args.lengths, args.modulation_shift, world.device, args.precision, args.last
    )
    if world.is_main and (warning := precision_warning(args.precision, world.device)):
        print(warning, file=sys.stderr)
    return evaluate(
        model,
        store,
        split=args.split,
        lengths=args.lengths,
        last=args.last,
        max_tokens=args.max_tokens,
        same_bases=args.same_bases,
        # Every rank has the whole model and scores its share of the windows.
        mesh=Mesh(world) if world.size == 1 else build_mesh(world, ParallelConfig()),
        note=print if world.is_main else lambda _: None,
    )


def _tell(args: argparse.Namespace, store: "GenomeStore", found: "HeldOut") -> None:
    """Print the tables and write what is asked for."""
    from hyena_dist.system.files import write_atomically
    from hyena_dist.train.evaluation.report import tables, to_json, write_folder

    for line in tables(found):
        print(line)
    content = {
        "checkpoint": str(args.checkpoint),
        "data": store.fingerprint,
        "split": args.split,
        "precision": args.precision,
        "same_bases": args.same_bases,
    } | to_json(found)
    if args.json:
        write_atomically(args.json, json.dumps(content, indent=2) + "\n")
    if args.out:
        pictures = write_folder(found, args.out, content)
        print(f"\nwrote {args.out}: evaluation.json, {', '.join(path.name for path in pictures)}")
