"""server/report_cache.py: which report a viewer gets again."""

import json

from claude_proxy.server.report_cache import ReportCache


class Clock:
    now = 1000.0

    def __call__(self):
        return self.now


def test_a_report_is_fresh_for_half_the_interval_of_the_page():
    """A report is used again within two and a half seconds, by its viewer alone."""
    clock = Clock()
    cache = ReportCache(clock)
    report = cache.keep("anna", {"now": 1000.0, "pool": 1})
    assert cache.recent("anna") is report
    assert cache.recent("ben") is None
    clock.now += 2.4
    assert cache.recent("anna") is report
    clock.now += 0.2
    assert cache.recent("anna") is None


def test_the_tag_is_that_of_the_content():
    """The time alone does not change the tag; the body is the report with its time."""
    cache = ReportCache(Clock())
    first, later, other = (cache.keep("anna", {"pool": pool, "now": now}) for pool, now in (("ä", 1.5), ("ä", 2.5), ("b", 1.5)))
    assert first.tag == later.tag != other.tag
    assert json.loads(later.body) == {"pool": "ä", "now": 2.5}
    assert json.loads(cache.keep("anna", {"now": 1}).body) == {"now": 1}


def test_which_tags_name_a_report():
    """A report is known by its tag, among others too."""
    report = ReportCache(Clock()).keep("anna", {"now": 1, "pool": 1})
    assert report.is_known(report.tag)
    assert report.is_known(f'"x", {report.tag}')
    assert not [tags for tags in (None, "", '"x"', report.tag[2:]) if report.is_known(tags)]


def test_old_reports_are_forgotten():
    """The reports of viewers who are gone take no memory."""
    clock = Clock()
    cache = ReportCache(clock)
    for name in range(100):
        cache.keep(name, {"now": clock.now})
        clock.now += 1
    assert len(cache._reports) <= 3
