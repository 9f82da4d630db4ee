"""Control frames that wait on their way out; knows neither frames nor sockets."""

from collections import OrderedDict


class ControlLane:
    """Control frames that wait, in the order of entry.

    A job can be withdrawn as long as it waits. It is not counted: a client waits for each job, and
    holds its request in memory anyway; how many frames of all other kinds there are is up to the peer.

    Attributes:
        waiting: the frames, jobs by their id; to be changed by the methods alone.
        waiting_bytes: their sum, but for jobs.
    """

    __slots__ = ("_entered", "waiting", "waiting_bytes")

    def __init__(self) -> None:
        self.waiting: OrderedDict[str | int, bytes] = OrderedDict()
        self.waiting_bytes = 0
        self._entered = 0

    def enter(self, message: bytes) -> None:
        self._entered += 1
        self.waiting[self._entered] = message
        self.waiting_bytes += len(message)

    def enter_job(self, job_id: str, message: bytes) -> None:
        """A new attempt takes the place of one that still waits."""
        self.waiting[job_id] = message

    def withdraw(self, job_id: str) -> None:
        self.waiting.pop(job_id, None)

    def take(self) -> bytes:
        key, message = self.waiting.popitem(last=False)
        if isinstance(key, int):
            self.waiting_bytes -= len(message)
        return message

    def clear(self) -> None:
        self.waiting.clear()
        self.waiting_bytes = 0
