# mypy: allow-untyped-defs, allow-incomplete-defs
# Arguments of a kernel have no Python types but tl.constexpr: Triton gives them theirs at each launch.
"""Parts of Fourier transforms by matrix products on tensor cores, and the tables that they take.

What is computed. A real sequence x of L points is taken at N >= L frequencies that lie a quarter of a step off the
usual ones, with e(t) = exp(-2 pi i t):

    X(f) = sum over n of x_n e(n (f + 1/4) / N)

This "right-angle" transform needs no zeros after the sequence: in the inverse transform of a product of two spectra,
what an FFT of N points wraps around comes with a factor i or -i, so the real part is the causal convolution (with one
factor conjugated, the correlation). It takes two levels. With N = N1 N2, n = n1 N2 + n2 and f = k1 + N1 k2:

    first level    Z[k1, n2] = sum over n1 of F[k1, n1] x[n1, n2]         F[k1, n1] = e(n1 (k1 + 1/4) / N1)
    rows           X[k1, k2] = sum over n2 of e(n2 k2 / N2) S[k1, n2] Z[k1, n2]       S[k1, n2] = e(n2 (k1 + 1/4) / N)

Nothing asks for an order of the frequencies. N1 is any number, so that few points are added to a sequence.

Back it goes with conjugates, by the same steps in the opposite order. From conj(Y) come conj(S Z) by rows, G = S times
this, and last the real part of the product of F's transpose and G, N times the sequence.

Long rows are a transform of two levels of their own: N2 = P Q, n2 = p Q + q, k2 = kp + P kq, with matrices of
e(p kp / P) and of e(q kq / Q), and twiddle factors e(q kp / N2) between them.

Kernels hold what they transform as the left factor of products, for which the other factor is a table. Where the sum is
over the first index of a tile, the tile lies across: p Q + q is in row q and column p.

Products of matrices take factors in bfloat16 and add up in float32. A number is a sum of PARTS numbers in bfloat16, of
8 bits each, and products of parts that are smaller than what is lost anyway are left out: PARTS is 1, 2 or 3 for 1, 3
or 6 products ("bf16", "bf16x3" and "bf16x6"). Tables are computed in float64 and lie in memory in parts.

Source: R. Crandall and B. Fagin, Discrete weighted transforms and large-integer arithmetic (1994); H. Nussbaumer, Fast
Fourier Transform and Convolution Algorithms (1982), on right-angle convolution.
"""

import math

import torch
import triton
import triton.language as tl
from torch import Tensor

_INTERPRETED = tl.constexpr(triton.knobs.runtime.interpret)
"""Triton's interpreter multiplies no bfloat16, and truncates to it where a GPU rounds: parts are in float32 there."""


@triton.jit
def rounded(x):
    """Return x rounded to bfloat16, in the type that parts are multiplied in."""
    if _INTERPRETED:
        bits = x.to(tl.int32, bitcast=True)
        x = ((bits + 0x7FFF + ((bits >> 16) & 1)) & -0x10000).to(tl.float32, bitcast=True)
    else:
        x = x.to(tl.bfloat16)
    return x


@triton.jit
def split(x):
    """Return three tiles whose sum is x, in the type that parts are multiplied in; those not taken cost nothing."""
    high = rounded(x)
    rest = x - high.to(tl.float32)
    middle = rounded(rest)
    return high, middle, rounded(rest - middle.to(tl.float32))


@triton.jit
def load_parts(table, row, column, stride, plane, PARTS: tl.constexpr):
    """Return a matrix in parts at some rows and columns of a table, whose parts are `plane` numbers apart."""
    place = table + row[:, None] * stride + column[None, :]
    high = tl.load(place)
    middle = tl.load(place + plane) if PARTS > 1 else high
    low = tl.load(place + 2 * plane) if PARTS > 2 else high
    if _INTERPRETED:
        high, middle, low = high.to(tl.float32), middle.to(tl.float32), low.to(tl.float32)
    return high, middle, low


@triton.jit
def load_square(table, SIZE: tl.constexpr, PARTS: tl.constexpr):
    """Return a matrix [SIZE, SIZE] in parts."""
    i = tl.arange(0, SIZE)
    return load_parts(table, i, i, SIZE, SIZE * SIZE, PARTS)


@triton.jit
def matmul(a, b, acc, PARTS: tl.constexpr):
    """Return acc + a @ b of matrices in parts."""
    for j in tl.static_range(PARTS):
        for i in tl.static_range(PARTS - j):
            acc = tl.dot(a[i], b[j], acc)
    return acc


@triton.jit
def complex_matmul(re, im, table, SIZE: tl.constexpr, PARTS: tl.constexpr):
    """Return the product of a tile (re + i im) [R, SIZE] and a matrix (c + i s) of `matrix`, [SIZE, SIZE].

    Few numbers wait in registers: the parts of im are done with before those of re are made, and barriers keep the
    compiler from holding on to tables.
    """
    zero = tl.zeros(re.shape, tl.float32)
    s = table + 3 * SIZE * SIZE
    tl.debug_barrier()
    parts = split(im)
    acc_re = matmul(parts, load_square(s, SIZE, PARTS), zero, PARTS)
    acc_im = matmul(parts, load_square(table, SIZE, PARTS), zero, PARTS)
    tl.debug_barrier()
    parts = split(re)
    acc_re = matmul(parts, load_square(table, SIZE, PARTS), -acc_re, PARTS)
    return acc_re, matmul(parts, load_square(s, SIZE, PARTS), acc_im, PARTS)


@triton.jit
def times(a_re, a_im, b_re, b_im):
    """Return the product of complex numbers a and b."""
    return a_re * b_re - a_im * b_im, a_re * b_im + a_im * b_re


@triton.jit
def times_conjugate(a_re, a_im, b_re, b_im):
    """Return the product of complex numbers a and conj(b)."""
    return a_re * b_re + a_im * b_im, a_im * b_re - a_re * b_im


@triton.jit
def load_complex(x, place, plane):
    """Return real and imaginary parts, `plane` numbers behind one another in memory, in float32."""
    return tl.load(x + place).to(tl.float32), tl.load(x + plane + place).to(tl.float32)


@triton.jit
def store_complex(x, place, plane, re, im):
    """Write real and imaginary parts where `load_complex` reads them, in the type of that memory."""
    tl.store(x + place, re)
    tl.store(x + plane + place, im)


@triton.jit
def places(P: tl.constexpr, Q: tl.constexpr):
    """Return p Q + q of each place of a tile [P, Q]."""
    return tl.arange(0, P)[:, None] * Q + tl.arange(0, Q)[None, :]


@triton.jit
def places_across(P: tl.constexpr, Q: tl.constexpr):
    """Return p Q + q of each place of a tile [Q, P]."""
    return tl.arange(0, P)[None, :] * Q + tl.arange(0, Q)[:, None]


def phases(turns: Tensor, of: int) -> Tensor:
    """Return e(turns / of), [2, ...] in float64 (real, imaginary), of integers [...]."""
    angle = (turns % of).double() * (2 * math.pi / of)
    return torch.stack((torch.cos(angle), -torch.sin(angle)))


def in_parts(x: Tensor) -> Tensor:
    """Return the parts of matrices x [..., R, C], [..., 3, R, C] in bfloat16."""
    parts = []
    for _ in range(3):
        parts.append(x.bfloat16())
        x = x - parts[-1].double()
    return torch.stack(parts, -3)


def first_level(n1: int, size: int) -> Tensor:
    """Return the transpose of F and then conj(F), in parts, [2, 2, 3, size, size] with zeros around."""
    i = torch.arange(n1)
    f = phases((4 * i[:, None] + 1) * i, 4 * n1)
    conjugate = f * torch.tensor([1.0, -1.0], dtype=torch.float64)[:, None, None]
    around = size - n1
    return in_parts(torch.nn.functional.pad(torch.stack((f.mT, conjugate)), (0, around, 0, around)))


def matrix(size: int) -> Tensor:
    """Return the matrix of e(j k / size) in parts, [2, 3, size, size]."""
    i = torch.arange(size)
    return in_parts(phases(i[:, None] * i, size))


def shifts(n1: int, n2: int, at: Tensor) -> Tensor:
    """Return the factors S[k1, n2] of all k1 at positions n2 [a], [2, N1, a] in float32."""
    return phases((4 * torch.arange(n1)[:, None] + 1) * at, 4 * n1 * n2).float()


def twiddles(p: int, q: int) -> Tensor:
    """Return the factors e(q kp / (P Q)), [2, P, Q] in float32."""
    return phases(torch.arange(p)[:, None] * torch.arange(q), p * q).float()
