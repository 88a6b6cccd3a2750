"""The stop switch of each open page: pressing Stop reaches an answer that runs in another thread."""

from threading import Event, Lock


class Stops:
    """One switch per browser session; starting a further answer stops the one before it."""

    def __init__(self) -> None:
        self._lock = Lock()
        self._events: dict[str, Event] = {}

    def start(self, session: str) -> Event:
        """The switch of an answer that begins."""
        with self._lock:
            earlier = self._events.get(session)
            if earlier:
                earlier.set()
            event = self._events[session] = Event()
            return event

    def answering(self, session: str) -> bool:
        """Whether an answer of the session is running."""
        with self._lock:
            return session in self._events

    def stop(self, session: str) -> None:
        """Asks the session's running answer to end; nothing happens without one."""
        with self._lock:
            event = self._events.get(session)
            if event:
                event.set()

    def end(self, session: str, event: Event) -> None:
        """Forgets the switch of an answer that ended."""
        event.set()
        with self._lock:
            if self._events.get(session) is event:
                del self._events[session]
