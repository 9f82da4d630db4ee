"""When the agent serves: by the clock on the wall, over midnight, and when that clock is changed."""

from contextlib import suppress
from datetime import UTC, datetime, time
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from provider_agent.agent.schedule import BadSchedule, Hours, Schedule, find_zone, parse_hours

BERLIN = ZoneInfo("Europe/Berlin")
NIGHT = Schedule(parse_hours("22:00-07:00"), BERLIN)
MINUTE_S = 60

times = st.builds(time, st.integers(0, 23), st.integers(0, 59))
hours = st.builds(Hours, times, times).filter(lambda one: one.start != one.end)
zones = st.sampled_from(
    ["Europe/Berlin", "UTC", "America/New_York", "Australia/Lord_Howe", "Asia/Kathmandu", "America/Sao_Paulo"]
).map(ZoneInfo)
schedules = st.builds(Schedule, st.lists(hours, min_size=1, max_size=3).map(tuple), zones)
moments = st.datetimes(datetime(2024, 1, 1), datetime(2030, 1, 1), timezones=st.just(UTC)).map(  # noqa: DTZ001 - the zone is added
    datetime.timestamp
)


def at(text: str, zone: ZoneInfo = BERLIN) -> float:
    return datetime.fromisoformat(text).replace(tzinfo=zone).timestamp()


def told(schedule: Schedule, at_s: float | None) -> str | None:
    return None if at_s is None else datetime.fromtimestamp(at_s, schedule.zone).isoformat(" ", "minutes")


@pytest.mark.parametrize(
    ("moment", "is_active"),
    [("21:59", False), ("22:00", True), ("00:00", True), ("06:59", True), ("07:00", False), ("12:00", False)],
)
def test_a_night_wraps_over_midnight(moment: str, is_active: bool) -> None:
    """The ordinary case; the end belongs to the day."""
    assert NIGHT.is_active(at(f"2026-05-04 {moment}")) is is_active


def test_the_next_change_is_at_the_nearer_edge() -> None:
    """By day the evening, at night the morning."""
    assert told(NIGHT, NIGHT.changes_at(at("2026-05-04 12:00"))) == "2026-05-04 22:00+02:00"
    assert told(NIGHT, NIGHT.changes_at(at("2026-05-04 22:00"))) == "2026-05-05 07:00+02:00"
    assert NIGHT.told(at("2026-05-04 22:00")) == "22:00 (Europe/Berlin)"


def test_without_hours_the_agent_always_serves() -> None:
    """As long as nothing is set."""
    assert Schedule().is_active(at("2026-05-04 12:00"))
    assert Schedule().changes_at(at("2026-05-04 12:00")) is None


def test_ranges_that_cover_the_day_never_end() -> None:
    """And one that begins where another ends is no change."""
    assert Schedule(parse_hours("00:00-12:00, 12:00-00:00"), BERLIN).changes_at(0) is None


def test_a_machine_without_a_zone_of_its_own_in_the_settings_uses_its_local_time() -> None:
    """Whatever that is here."""
    schedule = Schedule(parse_hours("22:00-07:00"))
    local_noon_s = datetime(2026, 5, 4, 12).timestamp()  # noqa: DTZ001 - local time is what is meant

    assert not schedule.is_active(local_noon_s)
    assert schedule.changes_at(local_noon_s) == local_noon_s + 10 * 3600
    assert schedule.told(local_noon_s) == "12:00"


def test_what_summer_time_skips_is_skipped() -> None:
    """On 29 March 2026 the clock in Berlin goes from 02:00 to 03:00: a service from 02:30 begins at 03:00."""
    schedule = Schedule(parse_hours("02:30-05:00"), BERLIN)

    assert told(schedule, schedule.changes_at(at("2026-03-29 01:00"))) == "2026-03-29 03:00+02:00"


def test_what_winter_time_repeats_is_repeated() -> None:
    """On 25 October 2026 it goes from 03:00 back to 02:00: half past two, and the service, come twice."""
    schedule = Schedule(parse_hours("02:30-05:00"), BERLIN)
    seen, now_s = [], at("2026-10-25 01:00")
    for _ in range(3):
        now_s = schedule.changes_at(now_s) or 0
        seen.append((told(schedule, now_s), schedule.is_active(now_s)))

    assert seen == [
        ("2026-10-25 02:30+02:00", True),
        ("2026-10-25 02:00+01:00", False),
        ("2026-10-25 02:30+01:00", True),
    ]


@given(schedules, moments)
def test_nothing_changes_before_the_change_and_something_then(schedule: Schedule, now_s: float) -> None:
    """Whatever the hours, the zone and the day: looked at every few minutes until then."""
    changes_s = schedule.changes_at(now_s)
    is_active = schedule.is_active(now_s)
    until_s = now_s + 2 * 86_400 if changes_s is None else changes_s

    assert until_s > now_s
    assert changes_s is None or schedule.is_active(changes_s) is not is_active
    steps = int((until_s - now_s) / (7 * MINUTE_S))
    assert all(schedule.is_active(now_s + step * 7 * MINUTE_S) is is_active for step in range(steps))
    assert schedule.is_active(until_s - 0.001) is is_active


@given(st.lists(hours, min_size=1, max_size=4))
def test_a_schedule_is_read_as_it_is_written(ranges: list[Hours]) -> None:
    """With any blanks."""
    text = " , ".join(f"{one.start:%H:%M}- {one.end:%H:%M}" for one in ranges)

    assert parse_hours(text) == tuple(ranges)


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("", 'holds what is no range of hours; write it as "22:00-07:00", several with commas between them'),
        ("22:00", 'holds what is no range of hours; write it as "22:00-07:00"'),
        ("22-7", 'holds what is no range of hours; write it as "22:00-07:00"'),
        ("٢٢:00-07:00", "holds what is no range of hours"),
        ("22:00-07:60", "holds what is no range of hours"),
        ("09:00-12:00,", "holds what is no range of hours"),
        ("18:00-24:00", "holds 24:00, which no clock shows; write midnight as 00:00"),
        ("22:00-22:00", "holds a range that ends as it begins, at 22:00; remove the key to serve at all"),
    ],
)
def test_nonsense_is_told_in_one_sentence(text: str, sentence: str) -> None:
    """What is wrong, and what to do."""
    with pytest.raises(BadSchedule) as caught:
        parse_hours(text)
    assert str(caught.value).startswith(sentence)


@given(st.text(max_size=20))
def test_any_text_is_hours_or_nonsense(text: str) -> None:
    """And nothing else comes out of it."""
    with suppress(BadSchedule):
        assert parse_hours(text)


@pytest.mark.parametrize(
    "name", ["Europe/Bärlin", "", "../etc/passwd", "Europe", "/etc/localtime", "x" * 300, "a\0b"]
)
def test_a_zone_that_is_not_known_is_told(name: str) -> None:
    """Also one that is a folder, or a way out of the folder of zones."""
    with pytest.raises(BadSchedule, match="no time zone"):
        find_zone(name)
    assert find_zone("Europe/Berlin").key == "Europe/Berlin"
