"""Memory that runs out where a function of ours is called for the first time: the n-th such function of a command that
is understood and opens the library.
"""

import sys
from types import CodeType, FrameType

OURS = ("app", "engine", "storage")
FIRST = "App.__init__"


class Shortage:
    """A profiling function for one thread; with `at` 0 it only counts."""

    def __init__(self, at: int = 0) -> None:
        self.at = at
        self.called: set[CodeType] = set()
        """Functions so far."""

    def __call__(self, frame: FrameType, event: str, _: object) -> None:
        if event != "call" or frame.f_code in self.called:
            return
        if not self.called and frame.f_code.co_qualname != FIRST:
            return
        if str(frame.f_globals.get("__name__")).partition(".")[0] in OURS:
            self.called.add(frame.f_code)
            if len(self.called) == self.at:
                raise MemoryError(f"{frame.f_code.co_filename}:{frame.f_code.co_qualname}")


def begin(at: int = 0) -> None:
    """Have memory run out in this thread from now on, once."""
    sys.setprofile(Shortage(at))


def end() -> int:
    """How many functions of ours were called; 0 where it was not begun, or memory did run out."""
    shortage = sys.getprofile()
    sys.setprofile(None)
    return len(shortage.called) if isinstance(shortage, Shortage) else 0
