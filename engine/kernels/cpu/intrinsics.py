"""What Numba lacks: single instructions that vectorise, memory by its address, and counters that threads share."""

from llvmlite import ir
from numba import carray, njit, types
from numba.extending import intrinsic

_yield = types.ExternalFunction("sched_yield", types.intc())
_SPINS = 2000
"""Looks at a counter, some microseconds of them, after which others may have the processor."""


@intrinsic
def fma(typing, a, b, c):
    """a * b + c in float32, rounded once."""
    return types.float32(*[types.float32] * 3), lambda context, builder, signature, args: builder.fma(*args)


@intrinsic
def float_of(typing, bits):
    """The float32 of 32 bits."""
    return types.float32(types.int32), lambda context, builder, signature, args: builder.bitcast(
        args[0], ir.FloatType()
    )


@intrinsic
def bits_of(typing, number):
    """The 32 bits of a float32."""
    return types.int32(types.float32), lambda context, builder, signature, args: builder.bitcast(
        args[0], ir.IntType(32)
    )


@intrinsic
def count(typing, address):
    """Add 1 to the int64 at an address; what it was."""

    def generate(context, builder, signature, args):
        pointer = builder.inttoptr(args[0], ir.IntType(64).as_pointer())
        return builder.atomic_rmw("add", pointer, ir.IntType(64)(1), "acq_rel")

    return types.int64(types.int64), generate


@intrinsic
def counted(typing, address):
    """The int64 at an address, and whatever was written before it was counted up."""

    def generate(context, builder, signature, args):
        pointer = builder.inttoptr(args[0], ir.IntType(64).as_pointer())
        return builder.load_atomic(pointer, "acquire", 8)

    return types.int64(types.int64), generate


@intrinsic
def _pointer(typing, address, kind):
    pointer = types.CPointer(kind.dtype)
    return pointer(types.int64, kind), lambda context, builder, signature, args: builder.inttoptr(
        args[0], context.get_value_type(pointer)
    )


@njit
def floats(address, size):
    """`size` numbers of float32 at an address."""
    return carray(_pointer(address, types.float32), (size,))


@njit
def words(address, size):
    """`size` numbers of int32 at an address."""
    return carray(_pointer(address, types.int32), (size,))


@njit
def wait(address, goal):
    """Until the counter at an address is there."""
    looks = 0
    while counted(address) < goal:
        looks += 1
        if looks > _SPINS:
            _yield()
