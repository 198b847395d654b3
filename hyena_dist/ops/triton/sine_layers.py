# mypy: allow-untyped-defs, allow-incomplete-defs
# Arguments of a kernel have no Python types but tl.constexpr: Triton gives them theirs at each launch.
"""The layers of the implicit filter's sine network within a GPU kernel, and how its parameters lie in memory.

What is computed, at each position with features z:

    l_0 = z        u_i = W_i l_{i-1} + b_i        l_i = sin(f u_i)        for i = 1, ..., n

The parameters, and likewise their gradients, are a row: W_1, ..., W_n, b_1, ..., b_n, f, and V, the last layer's
weight.

Shapes: L positions, E features of a position, W width, n hidden layers (DEPTH), T positions of a program; P is the
width padded to a power of two with zeros, of which the sine is zero again. Everything is float32.
"""

import triton
import triton.language as tl


@triton.jit
def sine(x, quarters: tl.constexpr):
    """Return sin(x + quarters pi / 2), to 3e-7 where |x| < 20,000.

    The library's sine has a branch for huge numbers, which takes a stack and much code for each number of a tile. Here
    x is moved by half turns to within pi / 2 of zero; pi has three parts, whose products with so few turns are exact.
    """
    turns = tl.floor(x * 0.3183098861837907 + (0.5 * quarters + 0.5))
    half = turns - 0.5 * quarters
    r = x - half * 3.140625 - half * 9.67502593994140625e-4 - half * 1.509957990978376432e-7
    s = r * r
    p = ((2.600022753540543e-06 * s - 1.980660017579794e-4) * s + 8.333017118275166e-3) * s - 1.6666656732559204e-1
    odd = turns - 2.0 * tl.floor(turns * 0.5)
    return (r + r * s * p) * (1.0 - 2.0 * odd)


@triton.jit
def product(a, b):
    """Return a @ b with nearly the accuracy of float32."""
    return tl.dot(a, b, input_precision="tf32x3")


@triton.jit
def less_product(sums, a, b):
    """Return sums - a @ b. A sum over many tiles is not left to the matrix units, as `+` would be: they truncate."""
    return sums - product(a, b)


@triton.jit
def load_vector(at, W: tl.constexpr, P: tl.constexpr):
    """Return W numbers, zero beyond them."""
    w = tl.arange(0, P)
    return tl.load(at + w, mask=w < W, other=0.0)


@triton.jit
def store_vector(at, value, W: tl.constexpr, P: tl.constexpr):
    """Store the first W of P numbers."""
    w = tl.arange(0, P)
    tl.store(at + w, value, mask=w < W)


@triton.jit
def load_block(at, rows, columns, height, width, row_stride, column_stride):
    """Return a matrix's values at these rows and columns, zero where it has none."""
    inside = (rows < height)[:, None] & (columns < width)[None, :]
    return tl.load(at + rows[:, None] * row_stride + columns[None, :] * column_stride, mask=inside, other=0.0)


@triton.jit
def store_block(at, value, rows, columns, height, width, row_stride):
    """Store values in a matrix, whose columns are neighbours, at those of these rows and columns that it has."""
    inside = (rows < height)[:, None] & (columns < width)[None, :]
    tl.store(at + rows[:, None] * row_stride + columns[None, :], value, mask=inside)


@triton.jit
def at_weight(row, i, E: tl.constexpr, W: tl.constexpr):
    """Return where a row has W_i, for i > 1: W_1 is at its beginning."""
    return row + W * (E + (i - 2) * W)


@triton.jit
def at_bias(row, i, E: tl.constexpr, W: tl.constexpr, DEPTH: tl.constexpr):
    """Return where a row has b_i."""
    return row + W * (E + (DEPTH - 1) * W + i - 1)


@triton.jit
def at_freq(row, E: tl.constexpr, W: tl.constexpr, DEPTH: tl.constexpr):
    """Return where a row has f."""
    return at_bias(row, DEPTH + 1, E, W, DEPTH)


@triton.jit
def at_last(row, E: tl.constexpr, W: tl.constexpr, DEPTH: tl.constexpr):
    """Return where a row has V."""
    return at_bias(row, DEPTH + 2, E, W, DEPTH)


@triton.jit
def first_layer(z, parameters, t, length, E: tl.constexpr, W: tl.constexpr, DEPTH: tl.constexpr, P: tl.constexpr):
    """Return u_1 [T, P]; with a handful of features, no matter for matrix units."""
    w = tl.arange(0, P)
    u = tl.zeros([t.shape[0], P], tl.float32) + load_vector(at_bias(parameters, 1, E, W, DEPTH), W, P)[None, :]
    for feature in range(E):
        of_t = tl.load(z + t * E + feature, mask=t < length, other=0.0)
        u += of_t[:, None] * tl.load(parameters + w * E + feature, mask=w < W, other=0.0)[None, :]
    return u


@triton.jit
def next_layer(layer, parameters, i, E: tl.constexpr, W: tl.constexpr, DEPTH: tl.constexpr, P: tl.constexpr):
    """Return u_i [T, P] from l_{i-1}, for i > 1."""
    w = tl.arange(0, P)
    transposed = load_block(at_weight(parameters, i, E, W), w, w, W, W, 1, W)
    return product(layer, transposed) + load_vector(at_bias(parameters, i, E, W, DEPTH), W, P)[None, :]


@triton.jit
def hidden_layer(
    z, parameters, freq, t, length,
    LAYER: tl.constexpr, E: tl.constexpr, W: tl.constexpr, DEPTH: tl.constexpr, P: tl.constexpr,
):  # fmt: skip
    """Return l_i [T, P] of the layer i that LAYER says, at least 1."""
    u = first_layer(z, parameters, t, length, E, W, DEPTH, P)
    for i in range(2, LAYER + 1):
        u = next_layer(sine(freq * u, 0), parameters, i, E, W, DEPTH, P)
    return sine(freq * u, 0)
