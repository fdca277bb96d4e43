"""Ctrl-C while the event loop waits: it must not go unnoticed until something else happens."""

import asyncio
import signal
import threading
from collections.abc import Coroutine
from typing import Any, TypeVar

T = TypeVar("T")


def run(question: Coroutine[Any, Any, T]) -> T:
    """asyncio.run, which an interrupt ends at once. Raises KeyboardInterrupt.

    Left to itself it is told of a signal when the interpreter comes round to that. One that arrives
    as the loop goes to sleep, or at another thread, is then noticed when the loop wakes for another
    reason: when a deadline ends. A handler of the loop's own wakes it.
    """
    interrupted = False

    async def interruptible() -> T:
        loop, task = asyncio.get_running_loop(), asyncio.current_task()
        assert task is not None, "a coroutine runs in a task"

        def interrupt() -> None:
            nonlocal interrupted
            interrupted = True
            # Whoever asks a second time will not wait for anything to be put away.
            loop.remove_signal_handler(signal.SIGINT)
            task.cancel()

        loop.add_signal_handler(signal.SIGINT, interrupt)
        try:
            return await question
        finally:
            loop.remove_signal_handler(signal.SIGINT)

    try:
        return asyncio.run(interruptible() if _is_ours() else question)
    except asyncio.CancelledError:
        if interrupted:
            raise KeyboardInterrupt from None
        raise
    finally:
        # Of an interrupt before it began; otherwise nothing is left of it.
        question.close()


def _is_ours() -> bool:
    """Not where the shell has us ignore it, as in the background. Signals are the main thread's."""
    ignored = signal.getsignal(signal.SIGINT) is signal.SIG_IGN
    return not ignored and threading.current_thread() is threading.main_thread()
