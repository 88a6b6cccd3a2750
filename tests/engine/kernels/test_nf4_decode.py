"""The look-up of four-bit codes in PTX, without a GPU: what it computes, and that it compiles to what was meant."""

import random
import re

from bitsandbytes.functional import get_4bit_type

from engine.kernels.linear import nf4_decode
from tests.engine.kernels import ptx
from tests.engine.kernels.compiling import Case, compiled

TABLE = get_4bit_type("nf4", "cpu").tolist()


def test_every_code_at_every_place() -> None:
    chance = random.Random(0)
    for _ in range(40):
        raw = [chance.randbytes(4) for _ in range(32)]
        # The order of bitsandbytes: the first of two codes is the high half of a byte.
        codes = [[half for byte in four for half in (byte >> 4, byte & 15)] for four in raw]
        words = [int.from_bytes(four, "little") for four in raw]
        found = ptx.run(nf4_decode._SHUFFLE.value, {"$8": words, "$9": ptx.from_float(TABLE * 2)})
        for place in range(8):
            expected = [ptx.as_float(ptx.from_float([TABLE[eight[place]]]))[0] for eight in codes]
            assert ptx.as_float(found[f"${place}"]) == expected


def test_words_are_read_once_and_before_the_wait() -> None:
    """Compiled for Hopper: words 16 bytes at a time, before the wait for the launch before; x after, once for all."""
    cases = [Case("tiled_product", given) for given in ((False, "bfloat16"), (True, "float16"), (False, "float32"))]
    for case, (kernel,) in zip(cases, compiled(cases), strict=True):
        (gated, x), code = case.given, kernel.ptx
        words = [found.start() for found in re.finditer(r"ld\.global\S*evict_first\S*\.v4\.b32", code)]
        wait = code.index("griddepcontrol.wait")
        assert len(words) == (16 if gated else 8) and max(words) < wait
        # 32 numbers of x, of the norm's weight, and of x again for the norm, for each thread of 128.
        numbers = [found.start() for found in re.finditer(r"ld\.global\.v4\.b32", code)]
        of_weight = [at for at in numbers if at < wait]
        assert len(numbers) == 3 * (8 if x == "float32" else 4)
        assert len(of_weight) <= len(numbers) // 3
