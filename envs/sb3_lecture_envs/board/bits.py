"""Bit counting for bitboards: the processor's own instructions, callable inside kernels."""

from typing import Any

from llvmlite import ir
from numba import types
from numba.extending import intrinsic


@intrinsic
def _popcount(typingctx: Any, x: Any) -> Any:
    """Count the set bits of an integer."""
    if not isinstance(x, types.Integer):
        return None

    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        return builder.ctpop(args[0])

    return x(x), codegen


@intrinsic
def _lowest_bit(typingctx: Any, x: Any) -> Any:
    """Return the index of the lowest set bit of a nonzero integer (its width in bits for 0)."""
    if not isinstance(x, types.Integer):
        return None

    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        return builder.cttz(args[0], ir.Constant(ir.IntType(1), 0))

    return x(x), codegen


# named again without their decorator's type, which knows only the compiler's arguments
popcount: Any = _popcount
lowest_bit: Any = _lowest_bit
