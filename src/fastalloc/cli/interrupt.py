"""Ctrl-C and SIGTERM: a command runs in a thread of its own, so that a signal is heard while a kernel runs, is
compiled, or asks a policy. The first one asks the command to keep what is finished and end; GRACE_S later, or at the
second one, the process ends as it is. Files are written whole or not at all, so nothing is torn by that.
"""

import os
import signal
import sys
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from types import FrameType
from typing import NoReturn

GRACE_S = 1.7
LOOK_S = 0.25  # how often the main thread looks whether the command is done
_STACK = 16 << 20  # bytes
_SIGNALS = (signal.SIGINT, signal.SIGTERM)

_cancels: list[threading.Event] = []
_heard: list[int] = []


def cancellation() -> threading.Event:
    """An event that the first signal sets: for a command that can stop and keep what is finished."""
    event = threading.Event()
    if _heard:
        event.set()
    _cancels.append(event)
    return event


def interrupted() -> bool:
    """Whether a signal came."""
    return bool(_heard)


def exit_code() -> int:
    """The code of a command that ends because of a signal."""
    return 128 + (_heard[0] if _heard else signal.SIGINT)


def run(command: Callable[[], int]) -> int:
    """Runs ``command`` and gives its code; called by the main thread."""
    if threading.current_thread() is not threading.main_thread():
        return command()
    _cancels.clear()
    _heard.clear()
    others = set(threading.enumerate())
    codes: list[int] = []
    done = threading.Event()

    def body() -> None:
        try:
            codes.append(command())
        finally:
            done.set()

    until = [float("inf")]

    def hear(signum: int, frame: FrameType | None) -> None:
        _heard.append(signum)
        if len(_heard) > 1 or not _cancels:
            _end_at_once("stopped")
        until[0] = time.monotonic() + GRACE_S
        for cancel in _cancels:
            cancel.set()
        with suppress(OSError, ValueError):
            print("\nstopping; once more to stop at once", file=sys.stderr, flush=True)

    before = {number: signal.signal(number, hear) for number in _SIGNALS}
    size = threading.stack_size(_STACK)
    try:
        threading.Thread(target=body, name="command", daemon=True).start()
        threading.stack_size(size)
        while not done.wait(LOOK_S):
            if time.monotonic() > until[0]:
                _end_at_once("stopped; what was stored is kept")
    finally:
        threading.stack_size(size)
        for number, handler in before.items():
            signal.signal(number, handler)
    code = codes[0] if codes else 1
    if _heard:
        code = exit_code() if code in (0, exit_code()) else code
        if any(not thread.daemon for thread in set(threading.enumerate()) - others):
            _leave(code)  # a thread is inside a kernel, and Python would wait for it
    return code


def _end_at_once(line: str) -> NoReturn:
    with suppress(OSError, ValueError):
        print(f"\n{line}", file=sys.stderr)
    _leave(exit_code())


def _leave(code: int) -> NoReturn:
    for stream in (sys.stdout, sys.stderr):
        with suppress(OSError, ValueError, AttributeError):
            stream.flush()
    os._exit(code)
