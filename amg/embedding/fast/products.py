"""Faster products of matrices on CPUs."""

import contextlib

import torch
from torch.nn.attention import SDPBackend, sdpa_kernel


def rounded_here() -> bool:
    """Whether this CPU has AMX: then an update's products are rounded."""
    return torch.cpu.get_capabilities().get("amx_bf16", False)


@contextlib.contextmanager
def by_onednn(rounded=False):
    """Within it, oneDNN multiplies float32 matrices, where it is faster than MKL, torch's choice.

    With AVX-512 it is as exact as MKL, and faster on AMD's processors. With AMX it rounds what it
    multiplies to bfloat16 and adds in float32, as a GPU does in autocast, and is faster yet; so
    it is used there only if `rounded` results will do. Attention in one piece is slow so, and is
    computed by products, too. It takes more memory than MKL does.
    """
    able = torch.cpu.get_capabilities().get("avx512_dq", False)
    if not able or rounded_here() and not rounded:
        yield
        return
    products = torch.backends.mkldnn.matmul
    before, products.fp32_precision = products.fp32_precision, "bf16"  # allows it, does not ask it
    try:
        with sdpa_kernel(SDPBackend.MATH):
            yield
    finally:
        products.fp32_precision = before
