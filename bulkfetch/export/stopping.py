"""Stop a publication in the middle of calls that ask nobody: a sort, a COPY, a query."""

import contextlib
import threading
from collections.abc import Callable, Generator, Iterable, Iterator

import pyarrow as pa

from bulkfetch.errors import LocalError

_WATCH_EVERY_S = 0.1


class PublishingStopped(LocalError):  # noqa: N818 - not a failure: it was asked for
    """Publishing was told to stop; nothing was put in place."""

    def __init__(self) -> None:
        super().__init__("Publishing was stopped; nothing was put in place.")


class Stopping:
    """Asks whether to stop, and interrupts what is under way then.

    Args:
        is_asked: says that the publication shall stop. Any thread may ask it.
    """

    def __init__(self, is_asked: Callable[[], bool]) -> None:
        self.is_asked = is_asked
        self._interrupts: list[Callable[[], None]] = []
        self._lock = threading.Lock()  # nothing is interrupted after it was closed

    @contextlib.contextmanager
    def interrupting(self, interrupt: Callable[[], None]) -> Generator[None, None, None]:
        """Have `interrupt` called, from another thread, if the block has to stop."""
        with self._lock:
            self._interrupts.append(interrupt)
        try:
            yield
        finally:
            with self._lock:
                self._interrupts.remove(interrupt)

    @contextlib.contextmanager
    def watching(self) -> Generator[None, None, None]:
        """Watch during the block, in a thread."""
        is_over = threading.Event()

        def watch() -> None:
            while not is_over.wait(_WATCH_EVERY_S):
                if self.is_asked():
                    with self._lock:
                        for interrupt in self._interrupts:
                            interrupt()

        watcher = threading.Thread(target=watch, name="bulkfetch publish", daemon=True)
        watcher.start()
        try:
            yield
        finally:
            is_over.set()
            watcher.join()

    def guard(
        self, batches: Iterable[pa.RecordBatch], failures: list[BaseException]
    ) -> Iterator[pa.RecordBatch]:
        """Pass batches on; keep an exception, of which a library in C would make a text."""
        try:
            for batch in batches:
                if self.is_asked():
                    raise PublishingStopped  # noqa: TRY301 - kept like any other
                yield batch
        except GeneratorExit:
            raise
        except BaseException as error:
            failures.append(error)
            raise
