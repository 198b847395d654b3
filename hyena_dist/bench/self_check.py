"""A check that a device computes what it should: our layers and kernels against published formulas in float64.

A first thing to run on hardware that we have not seen. It takes about a minute on a CPU.
"""

import functools
from collections.abc import Callable, Iterator, Sequence
from types import ModuleType

import torch
from torch import Tensor

from hyena_dist.bench.candidates.matmul_fft import matmul_transform
from hyena_dist.bench.process import check_device
from hyena_dist.bench.reference_model import as_published
from hyena_dist.config.model import ModelConfig
from hyena_dist.models.lm import HyenaDNA
from hyena_dist.ops.conv import gates
from hyena_dist.ops.conv.fft import PlainTransform

FORWARD = {torch.float32: 1e-5, torch.bfloat16: 2e-2}
"""The error allowed for values of each type, as a share of the largest of them."""
GRADIENT = {torch.float32: 1e-4, torch.bfloat16: 2e-2}
"""The error allowed for gradients of models of each type, as a share of the largest of them."""
LENGTHS = (1, 2, 37, 1000, 8192, 131_071, 131_072)

Check = tuple[str, float, float]
"""What was compared, the largest error as a share of the largest value, and how large it may be."""


def self_check(device: str) -> bool:
    """Print each check with its error and what is allowed; True if none failed."""
    check_device(device)
    name = torch.cuda.get_device_name() if device == "cuda" else "CPU"
    print(f"{name}, torch {torch.__version__}: errors against float64, as a share of the largest value")
    failed = 0
    for what, error, allowed in _checks(torch.device(device)):
        good = error <= allowed  # not if nan
        failed += not good
        print(f"{what:<60} {error:>9.2e} of {allowed:.0e}  {'ok' if good else 'FAILED'}", flush=True)
    print(f"{failed} checks failed" if failed else "all checks passed")
    return not failed


def _checks(device: torch.device) -> Iterator[Check]:
    for length in LENGTHS:
        for order in (2, 3) if length <= 8192 else (2,):
            yield from _layers(length, order, device)
    for length in (1000, 8192, 131_072):
        yield _matmul_fft(length, device)
    if device.type == "cuda":
        yield from _kernels(device)
    yield _training(device)


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
        yield f"loss of each base, {place}", _error(value, expected[0]), FORWARD[dtype]
        yield f"gradients, {place}", max(map(_error, gradients, expected[1:])), GRADIENT[dtype]


def _value_and_gradients(
    model: HyenaDNA, parameters: Sequence[Tensor], inputs: Tensor, targets: Tensor
) -> list[Tensor]:
    nll = model(inputs, targets, skip_logits=True).nll
    return [nll.detach(), *torch.autograd.grad(nll.mean(), parameters)]


def _matmul_fft(length: int, device: torch.device) -> Check:
    u, k = (torch.randn(4, length, dtype=torch.float64, device=device) for _ in range(2))
    exact = PlainTransform(length)
    expected = exact.inverse(exact.forward(u) * exact.forward(k))
    fft = matmul_transform(length, torch.float32, device)
    found = fft.inverse(fft.forward(u.float()).mul_(fft.forward(k.float())))
    return f"FFT by matrix products, float32, length {length:,}", _error(found, expected), 1e-5


def _kernels(device: torch.device) -> Iterator[Check]:
    """Compare the Triton kernels, which the tests run in Triton's interpreter, with what they stand for."""
    from hyena_dist.ops.triton import gates as triton_gates

    draw = functools.partial(torch.randn, device=device)
    rest = [draw(8, 3), draw(8, 3), draw(8), draw(8), draw(8, 2, 3001), draw(8, 2, 3001)]
    for dtype in FORWARD:
        x, x2 = draw(8, 2, 3001).to(dtype), draw(8, 2, 3001).to(dtype)
        found = _gates_of(triton_gates, x, x2, *rest)
        expected = _gates_of(gates, *(t.double() for t in (x, x2, *rest)))
        names = ("gate", "pair of gates", "gradient of m", "gradient of taps", "gradient of bias", "gradient of x")
        for name, actual, value in zip(names, found, expected, strict=True):
            yield f"Triton, {name}, {_name(dtype)}", _error(actual, value), GRADIENT[dtype]
    for dtype in FORWARD:
        for length in LENGTHS:
            yield from _convolution(length, dtype, draw)


def _convolution(length: int, dtype: torch.dtype, draw: Callable[..., Tensor]) -> Iterator[Check]:
    """Compare the kernels of the convolution, both passes, with transforms in float64."""
    from hyena_dist.ops.triton import long_conv
    from hyena_dist.ops.triton.rows import Rows

    u, d, k = draw(4, 2, length).to(dtype), draw(4, 2, length).to(dtype), draw(4, length)
    y, du, dk = torch.empty_like(u), torch.empty_like(u), torch.empty_like(k)
    precision = long_conv.precision_for(dtype)
    spectrum = long_conv.spectrum(k, precision)
    long_conv.convolve((Rows(u), None), spectrum, y, precision=precision)
    long_conv.convolve_backward((Rows(d), None), (Rows(u), None), spectrum, du, dk, precision=precision)
    exact = PlainTransform(length)
    u_f, d_f, k_f = (exact.forward(x.double()) for x in (u, d, k[:, None]))
    place = f"{_name(dtype)}, length {length:,}"
    yield f"Triton, convolution, {place}", _error(y, exact.inverse(u_f * k_f)), FORWARD[dtype]
    gradients = exact.inverse(d_f * k_f.conj()), exact.inverse(d_f * u_f.conj()).sum(1)
    error = max(_error(du, gradients[0]), _error(dk, gradients[1]))
    yield f"Triton, gradients of the convolution, {place}", error, GRADIENT[dtype]


def _gates_of(
    module: ModuleType, x: Tensor, x2: Tensor, w: Tensor, w2: Tensor, b: Tensor, b2: Tensor, m: Tensor, dy: Tensor
) -> list[Tensor]:
    dx = torch.empty_like(x)
    gradients = module.gate_backward(dy, x, w, b, m, dx)
    return [module.gate(x, w, b, m), module.gate_pair(x, w, b, x2, w2, b2), *gradients, dx]


def _training(device: torch.device) -> Check:
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
        losses.append(loss.item())
    return "share of the loss left by 60 steps on one batch, bfloat16", losses[-1] / losses[0], 0.9


def _name(dtype: torch.dtype) -> str:
    return str(dtype).removeprefix("torch.")


def _error(actual: Tensor, expected: Tensor) -> float:
    scale = expected.abs().max().clamp(min=1e-12)
    return float((actual.double() - expected.double()).abs().max() / scale)
