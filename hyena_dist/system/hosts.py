"""Names of machines and ports: where ranks meet."""

import itertools
import re
import socket
from collections.abc import Iterator

from hyena_dist.errors import UserError


def expand_hosts(nodes: str) -> Iterator[str]:
    """Yield the names of a SLURM node list in its order, as `scontrol show hostnames` prints them.

    A name may have several brackets, of which the last runs fastest: r[1-2]c[3-4] is r1c3, r1c4, r2c3, r2c4. Leading
    zeros stay: n[08-10] is n08, n09, n10.

    Args:
        nodes: the node list, for example $SLURM_JOB_NODELIST.

    Raises:
        UserError: the text is no list of nodes.
    """
    for name in re.findall(r"(?:[^,\[\]]|\[[^\[\]]*\])+", _checked(nodes)):
        pieces = re.split(r"\[(.*?)\]", name)  # text, inside of a bracket, text, ...
        choices = [list(_numbers(piece, nodes)) if i % 2 else [piece] for i, piece in enumerate(pieces)]
        yield from map("".join, itertools.product(*choices))


def first_host(nodes: str) -> str:
    """The first name of a SLURM node list: gpu007 of gpu[007-012,020],cpu1.

    Raises:
        UserError: as for `expand_hosts`.
    """
    return next(expand_hosts(nodes))


def free_port(address: str = "127.0.0.1") -> int:
    """A TCP port on which nothing of this machine listens now.

    Args:
        address: where it is to be free; "" for every network of this machine.
    """
    with socket.socket() as s:
        s.bind((address, 0))
        return int(s.getsockname()[1])


def _checked(nodes: str) -> str:
    text = nodes.strip()
    name = r"(?:[^,\[\]\s]|\[[^\[\]\s]+\])+"
    if not re.fullmatch(rf"{name}(?:,{name})*", text):
        raise _wrong(nodes)
    return text


def _numbers(inside: str, nodes: str) -> Iterator[str]:
    """The numbers of a bracket's inside, such as 01-03,7, with their leading zeros."""
    for part in inside.split(","):
        found = re.fullmatch(r"(\d+)(?:-(\d+))?", part)
        if found is None:
            raise _wrong(nodes)
        first, last = found[1], found[2] or found[1]
        if int(first) > int(last):
            raise _wrong(nodes)
        for number in range(int(first), int(last) + 1):
            yield f"{number:0{len(first)}d}"


def _wrong(nodes: str) -> UserError:
    return UserError(f"{nodes!r} is no SLURM list of nodes; it must look like n1, n[1-4] or r[1-2]c[01-16],login1")
