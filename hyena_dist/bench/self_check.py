"""A check that a device computes what it should: our layers and kernels against published formulas in float64.

A first thing to run on hardware that we have not seen. It takes about a minute on a CPU.
"""

from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import TYPE_CHECKING, NamedTuple

import torch
from torch import Tensor

from hyena_dist.bench.process import check_device
from hyena_dist.bench.reference_model import as_published
from hyena_dist.config.model import ModelConfig
from hyena_dist.models.lm import HyenaDNA
from hyena_dist.ops import reference
from hyena_dist.ops.backend import backend_of
from hyena_dist.ops.conv.fft import PlainTransform

if TYPE_CHECKING:
    from hyena_dist.ops.triton.long_conv import Precision

FORWARD = {torch.float32: 1e-5, torch.bfloat16: 2e-2}
"""The error allowed for values of each type, as a share of the largest of them."""
GRADIENT = {torch.float32: 1e-4, torch.bfloat16: 2e-2}
"""The error allowed for gradients of models of each type, as a share of the largest of them."""
CONVOLUTION: dict["Precision", float] = {"bf16x6": 1e-5, "bf16x3": 1e-4, "bf16": 2e-2}
"""The error allowed for the convolution on tensor cores in each precision, as a share of the largest value."""
LENGTHS = (1, 2, 37, 1000, 8192, 131_071, 131_072)


class Check(NamedTuple):
    """One comparison with float64."""

    what: str
    error: float
    """The largest error as a share of the largest value."""
    allowed: float
    """How large it may be."""

    @property
    def good(self) -> bool:
        """Whether the error is a number and no larger than allowed."""
        return self.error <= self.allowed


Group = tuple[str, Callable[[], Iterator[Check]]]
"""What some checks have in common, and the function that makes them."""


def self_check(device: str) -> bool:
    """Print each check with its error and what is allowed; True if none failed, by its error or by an exception."""
    check_device(device)
    name = torch.cuda.get_device_name() if device == "cuda" else "CPU"
    print(f"{name}, torch {torch.__version__}: errors against float64, as a share of the largest value")
    failed = 0
    for what, group in groups(torch.device(device), LENGTHS):
        try:
            for check in group():
                failed += not check.good
                outcome = "ok" if check.good else "FAILED"
                print(f"{check.what:<60} {check.error:>9.2e} of {check.allowed:.0e}  {outcome}", flush=True)
        except Exception as error:  # a kernel that cannot be built shall not hide what the others do
            failed += 1
            print(f"{what:<60} FAILED: {type(error).__name__}: {error}", flush=True)
    print(f"{failed} checks failed" if failed else "all checks passed")
    return not failed


def groups(device: torch.device, lengths: Sequence[int]) -> Iterator[Group]:
    """Give all checks of a device, those of models at each of these lengths, in groups that fail on their own."""
    for length in lengths:
        for order in (2, 3) if length <= 8192 else (2,):
            yield f"layers, order {order}, length {length:,}", partial(_layers, length, order, device)
    if backend_of(device) == "triton":
        yield "Triton, product of filtered rows", partial(_products, device)
        for length in (101, 1000, 4096, 10_000, 131_072, 1_000_003):
            if length <= max(lengths) or device.type == "cuda":
                yield f"Triton, convolution, length {length:,}", partial(_convolution, length, device)
    yield "training", partial(_training, device)


def _layers(length: int, order: int, device: torch.device) -> Iterator[Check]:
    """Compare a layer of ours and the last norm and head with the published computation of them."""
    torch.manual_seed(length)
    exact = HyenaDNA(ModelConfig(d_model=32, n_layer=1, l_max=max(2, length), order=order)).double().eval().to(device)
    batch = [torch.randint(7, 11, (2, length), device=device) for _ in range(2)]
    models = {dtype: HyenaDNA(exact.config, compute_dtype=dtype).eval().to(device) for dtype in FORWARD}
    found = {}
    for dtype, ours in models.items():
        ours.load_state_dict(exact.state_dict())
        found[dtype] = _value_and_gradients(ours, [*ours.parameters()], *batch)
    parameters = [*exact.parameters()]  # shared, in this order, with what follows
    expected = _value_and_gradients(as_published(exact), parameters, *batch)
    for dtype, (value, *gradients) in found.items():
        place = f"{_name(dtype)}, order {order}, length {length:,}"
        yield Check(f"loss of each base, {place}", _error(value, expected[0]), FORWARD[dtype])
        yield Check(f"gradients, {place}", max(map(_error, gradients, expected[1:])), GRADIENT[dtype])


def _value_and_gradients(
    model: HyenaDNA, parameters: Sequence[Tensor], inputs: Tensor, targets: Tensor
) -> list[Tensor]:
    nll = model(inputs, targets, skip_logits=True).nll
    return [nll.detach(), *torch.autograd.grad(nll.mean(), parameters)]


def _products(device: torch.device) -> Iterator[Check]:
    """Compare products of short-filtered rows in Triton kernels, and their gradients, with the plain functions."""
    from hyena_dist.ops.triton.product import add_sums, empty_sums, product, product_backward
    from hyena_dist.ops.triton.rows import Rows

    channels, taps = 8, 3
    draw = partial(torch.randn, device=device)
    for dtype in FORWARD:
        a, b = (Rows(draw(channels, 2, 3001).to(dtype), draw(channels, taps), draw(channels)) for _ in range(2))
        dy = draw(channels, 2, 3001).to(dtype)
        y, da, db = (torch.empty_like(dy) for _ in range(3))
        sums = empty_sums(dy, 2 * channels, taps)
        product((a, b), y)
        product_backward(dy, a, b, da, db, *sums.split(channels, dim=1))
        d_taps, d_bias, _ = add_sums(sums, torch.float32)
        leaves = [t.double().requires_grad_() for t in (*a, *b) if t is not None]
        short = [
            reference.short_conv(x.transpose(0, 1), *of_x).transpose(0, 1) for x, *of_x in (leaves[:3], leaves[3:])
        ]
        exact = short[0] * short[1]
        wanted = torch.autograd.grad(exact, leaves, dy.double())
        found = {"value": (y, exact.detach()), "gradients of rows": (torch.cat((da, db)), torch.cat(wanted[::3]))}
        found["gradients of taps"] = d_taps, torch.cat(wanted[1::3])
        found["gradients of biases"] = d_bias, torch.cat(wanted[2::3])
        for name, (actual, value) in found.items():
            yield Check(
                f"Triton, product of filtered rows, {name}, {_name(dtype)}", _error(actual, value), GRADIENT[dtype]
            )


def _convolution(length: int, device: torch.device) -> Iterator[Check]:
    """Compare the convolution on tensor cores and its gradients, in each precision, with FFTs in float64."""
    from hyena_dist.ops.triton.long_conv import convolve, convolve_backward, spectrum
    from hyena_dist.ops.triton.rows import Rows

    u, dy = (torch.randn(4, 2, length, device=device) for _ in range(2))
    k = torch.randn(4, length, device=device)
    exact = PlainTransform(length)
    u_f, dy_f, k_f = (exact.forward(t.double()) for t in (u, dy, k))
    wanted = {"value": u_f * k_f[:, None], "du": dy_f * k_f.conj()[:, None], "dk": (dy_f * u_f.conj()).sum(1)}
    for precision, allowed in CONVOLUTION.items():
        y, du, dk = torch.empty_like(u), torch.empty_like(u), torch.empty_like(k)
        k_spectrum = spectrum(k, precision)
        convolve((Rows(u), None), k_spectrum, y, precision=precision)
        convolve_backward((Rows(dy), None), (Rows(u), None), k_spectrum, du, dk, precision=precision)
        for (name, value), actual in zip(wanted.items(), (y, du, dk), strict=True):
            error = _error(actual, exact.inverse(value))
            yield Check(f"Triton, convolution, {name}, {precision}, length {length:,}", error, allowed)


def _training(device: torch.device) -> Iterator[Check]:
    """Train in bf16 on one batch, and check the share of its loss that is left."""
    torch.manual_seed(0)
    model = HyenaDNA(ModelConfig(d_model=64, n_layer=2, l_max=512, embed_dropout=0.0), compute_dtype=torch.bfloat16)
    model.to(device)
    optimizer = torch.optim.AdamW(model.parameters(), lr=3e-3)
    ids = torch.randint(7, 11, (2, 513), device=device)
    losses = []
    for _ in range(60):
        loss = model(ids[:, :-1], ids[:, 1:], skip_logits=True).nll.mean()
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
        losses.append(loss.detach())
    yield Check("share of the loss left by 60 steps on one batch, bfloat16", float(losses[-1] / losses[0]), 0.9)


def _name(dtype: torch.dtype) -> str:
    return str(dtype).removeprefix("torch.")


def _error(actual: Tensor, expected: Tensor) -> float:
    scale = expected.abs().max().clamp(min=1e-12)
    return float((actual.double() - expected.double()).abs().max() / scale)
