"""credentials/course.py: how the utilization of a window has changed since it opened."""

import pytest
from answers import DAY, HOUR
from hypothesis import given
from hypothesis import strategies as st
from pools import SALT, START, A, B, fill

from claude_proxy.credentials.course import MAX_POINTS, MAX_SAMPLES, Sample, begun, seconds_between
from claude_proxy.credentials.rate_limits import MAX_PLACES, CredentialState, Window

RESET = START + 5 * HOUR
PAUSE = seconds_between("5h")


def course_of(*reports, name="5h"):
    """Return the course after reports of one window: seconds after ``START``, and utilization."""
    before, course = None, None
    for at, used in reports:
        window = Window(used, RESET, START + at)
        course = begun(window) if course is None else course.after(name, before, window)
        before = window
    return course


def times(course):
    return [(round(one.at - START, 6), one.utilization) for one in course.samples]


@pytest.mark.parametrize(
    ("name", "seconds"), [("5h", 75), ("7d", 2520), ("7d_opus", 2520), ("1h", 60), ("overage", 900), ("", 900)]
)
def test_how_often_a_sample_is_taken(name, seconds):
    """The pause between two samples is a part of the window's length, at least a minute."""
    assert seconds_between(name) == seconds


def test_a_sample_needs_a_change_and_a_pause():
    """A report soon after a sample, or without a change, is no sample; the course is then the same object."""
    course = course_of((0, 0.1))
    for at, used in ((PAUSE - 1, 0.2), (PAUSE + 1, 0.1)):
        assert course.after("5h", None, Window(used, RESET, START + at)) is course
    assert times(course.after("5h", None, Window(0.2, RESET, START + PAUSE))) == [(0, 0.1), (PAUSE, 0.2)]


def test_a_pause_without_a_change_is_flat():
    """After a time without a change, the last report before the change is a sample, too."""
    course = course_of((0, 0.1), (HOUR, 0.1), (2 * HOUR, 0.1), (2 * HOUR + 60, 0.3), (3 * HOUR, 0.4))
    assert times(course) == [(0, 0.1), (2 * HOUR, 0.1), (2 * HOUR + 60, 0.3), (3 * HOUR, 0.4)]


def test_a_reset_begins_another_course():
    """A window with a later reset has a course of its own; a reset that differs by seconds is the same one."""
    course = course_of((0, 0.1), (PAUSE, 0.9))
    same = course.after("5h", None, Window(0.95, RESET + 30, START + 2 * PAUSE))
    assert len(same.samples) == 3
    other = same.after("5h", None, Window(0.01, RESET + 5 * HOUR, START + 2 * PAUSE + 1))
    assert (other.reset, times(other)) == (RESET + 5 * HOUR, [(2 * PAUSE + 1, 0.01)])


def test_what_is_shown():
    """What is shown begins with the first sample and ends with the last report, in at most so many points."""
    course = course_of(*((PAUSE * step, step / 200) for step in range(200)))
    last = Window(0.999, RESET, START + 4.9 * HOUR)
    shown = course.shown(last, 60)
    assert (len(shown), shown[0], shown[-1]) == (60, course.samples[0], Sample(last.seen, 0.999))
    assert shown == sorted(shown)
    assert course.shown(last, 1000) == [*course.samples, shown[-1]]
    assert course.shown(Window(0.1, RESET + DAY, START + DAY), 60) == [Sample(START + DAY, 0.1)]


@given(st.lists(st.tuples(st.floats(0, 5 * HOUR), st.floats(0, 1)), min_size=1, max_size=200))
def test_samples_are_in_order(reports):
    """Whatever is reported in which order, samples are in the order of their times, and as far apart as they should be."""
    course = course_of(*reports)
    at = [one.at for one in course.samples]
    assert at == sorted(at)
    assert len(at) <= 2 * (1 + (at[-1] - at[0]) / PAUSE)


def test_a_course_is_bounded():
    """A window that is reported without end, because its reset is wrong, keeps a bounded number of samples, the latest."""
    course = course_of(*((PAUSE * step, step % 7 / 7) for step in range(5 * MAX_POINTS)))
    assert len(course.samples) == MAX_POINTS
    assert course.samples[-1].at == START + PAUSE * (5 * MAX_POINTS - 1)
    assert MAX_POINTS >= MAX_SAMPLES


def test_the_pool_follows_its_windows(make, clock):
    """A pool knows the course of each window, which reaches other processes, and those that start later."""
    first, second, third = (make(A, B) for _ in range(3))
    for pool in (first, second, third):
        pool.set_salt(SALT)
    for step in range(5):
        clock.now = START + step * HOUR / 2
        pool = second if step == 3 else first
        fill(pool, A, step / 10, RESET - clock.now)
        for other in (first, second):
            other.merge(pool.changed() if other is not pool else ())
    third.merge(first.everything())
    expected = {("", "5h"): [(step * HOUR / 2, step / 10) for step in range(5)]}
    for pool in (first, second, third):
        found = next(one for one in pool.snapshot() if one.credential == A)
        assert {place: times(course) for place, course in found.courses.items()} == expected


def test_the_courses_of_a_credential_are_bounded():
    """There is a bounded number of courses; those whose windows are gone make room."""
    state = CredentialState(A)
    for number in range(3 * MAX_PLACES):
        state.put_course(("", str(number)), begun(Window(0.1, RESET, START)))
    assert len(state.courses) <= MAX_PLACES
    assert ("", str(3 * MAX_PLACES - 1)) in state.courses
    state.windows = {place: Window(0.1, RESET, START) for place in [("x", str(number)) for number in range(MAX_PLACES)]}
    state.courses = {place: begun(window) for place, window in state.windows.items()}
    assert state.put_course(("", "5h"), begun(Window(0.1, RESET, START))) is False
