"""Jobs stand in the order of their arrival, and not for ever."""

from provider_agent.coordinator.answer import Answer
from provider_agent.coordinator.jobs import Job, JobRequest
from provider_agent.coordinator.queue import Queue
from tests.fakes.agents import CHAT

REQUEST = JobRequest("m", CHAT, b"{}", stream=True)


def job(arrival: int, waits_until_s: float = 40.0) -> Job:
    answer = Answer(str(arrival), 1000)
    return Job(str(arrival), REQUEST, answer, arrival=arrival, arrived_s=10.0, waits_until_s=waits_until_s)


def order(queue: Queue) -> list[str]:
    return [each.job_id for each in queue]


def test_one_that_comes_back_stands_where_it_stood() -> None:
    """Its agent has failed it; that is not its client's fault."""
    queue = Queue()
    for arrival in (2, 4, 1, 3):
        queue.add(job(arrival))

    assert order(queue) == ["1", "2", "3", "4"]
    assert len(queue) == 4


def test_one_that_leaves_is_not_there() -> None:
    """The others keep their places."""
    queue, leaving = Queue(), job(2)
    for each in (job(1), leaving, job(3)):
        queue.add(each)

    queue.remove(leaving)

    assert order(queue) == ["1", "3"]


def test_who_has_waited_too_long_waits_no_more() -> None:
    """At the very moment, and whoever came first."""
    queue = Queue()
    for each in (job(1, 50.0), job(2, 40.0), job(3, 39.0)):
        queue.add(each)

    assert [each.job_id for each in queue.overdue(40.0)] == ["2", "3"]
    assert queue.overdue(40.0) == []
    assert order(queue) == ["1"]

    queue.clear()
    assert not queue
