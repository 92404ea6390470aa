"""conformance/: the table is sound, and the report and the published document match it."""

import re
from collections.abc import Iterator

import pytest

from conformance import rows, run
from conformance.target import Differs, Target
from conformance.upstream import Upstream

DOCUMENT_ROW = re.compile(r"^\| (?P<id>[a-z][a-z0-9-]*) \| (?P<cells>.*) \|$", re.MULTILINE)


def results(**changed: run.Result) -> dict[str, run.Result]:
    return {row.id: run.Result(met=True) for row in rows.ROWS} | {
        name.replace("_", "-"): each for name, each in changed.items()
    }


@pytest.fixture(scope="module")
def nobody() -> Iterator[Target]:
    """Return a port on which nothing listens."""
    upstream = Upstream()
    target = Target("http://127.0.0.1:9", "made-up", upstream)
    yield target
    target.close()
    upstream.close()


def test_every_row_has_an_id_of_its_own_and_a_sentence():
    """Ids are unique and fit into a table, and an expectation is one sentence."""
    ids = [row.id for row in rows.ROWS]
    assert len(set(ids)) == len(ids) > 90
    assert [row.id for row in rows.ROWS if not re.fullmatch(r"[a-z0-9-]+", row.id)] == []
    assert [row.id for row in rows.ROWS if not row.expectation.endswith(".") or "\n" in row.expectation] == []


def test_the_document_is_about_this_table():
    """docs/CONFORMANCE.md has exactly the rows of the table, in order, with their texts."""
    text = run.DOCUMENT.read_text(encoding="utf-8")
    found = [(row["id"], row["cells"].split(" | ")[:2]) for row in DOCUMENT_ROW.finditer(text)]
    assert found == [(row.id, [row.expectation, str(row.source)]) for row in rows.ROWS]


def test_the_document_says_that_this_proxy_meets_every_row():
    """In the published run this proxy met every expectation, and LiteLLM alone did not."""
    cells = [row["cells"].split(" | ") for row in DOCUMENT_ROW.finditer(run.DOCUMENT.read_text(encoding="utf-8"))]
    assert [row for row in cells if row[2] != "yes"] == []
    assert [row for row in cells if row[3] != "yes"]


def test_the_document_is_the_same_for_the_same_results():
    """The document depends only on results and versions, not on ports or times."""
    bare = results(head=run.Result(met=False, seen="HTTP 500 | and more"))
    text = run.document(results(), bare)
    assert text == run.document(results(), bare)
    assert f"- claude-proxy {run.claude_proxy.__version__}: {len(rows.ROWS)} of {len(rows.ROWS)} rows" in text
    assert "| yes | NO: HTTP 500 \\| and more |" in text
    assert not re.search(r"\d\d:\d\d|20\d\d-(?!0[0-9]-0[0-9]`)\d\d-\d\d", text)


def test_the_report_tells_the_three_results_apart():
    """The printed table has a line for each row, what was found instead, and the counts of checked rows."""
    text = run.table({"here": results(head=run.Result(met=False, seen="HTTP 500"), query=run.Result(None, "cannot be seen"))})
    assert all(re.search(rf"^{row.id} ", text, re.MULTILINE) for row in rows.ROWS)
    assert re.search(r"^head +NO ", text, re.MULTILINE)
    assert "here: HTTP 500" in text
    assert re.search(r"^query +not checked +", text, re.MULTILINE)
    assert "cannot be seen" in text
    assert f"here: {len(rows.ROWS) - 2} of {len(rows.ROWS) - 1} rows, 1 not checked" in text


def test_what_cannot_be_seen_is_not_checked():
    """Without the suite's upstream a row that needs it is not checked, with the reason; the others are."""

    def fails(_: Target) -> None:
        raise Differs("HTTP 500")

    both = [rows.Row("a", "A.", rows.CLIENT, fails), rows.Row("b", "B.", rows.CLIENT, fails, needs_upstream=False)]
    found = run.run(both, Target("http://127.0.0.1:9", "token"))
    assert found == {"a": run.Result(None, run.NO_UPSTREAM), "b": run.Result(met=False, seen="HTTP 500")}


def test_a_proxy_that_is_not_there_meets_nothing(monkeypatch):
    """A proxy that does not respond fails each row that can be checked, with a message."""
    monkeypatch.setenv("TOKEN", "made-up")
    found = run.check_url("http://127.0.0.1:9", "made-up", None)
    checked = {row.id for row in rows.ROWS if not row.needs_upstream}
    assert {name for name, result in found.items() if result.met is False} == checked
    assert {found[name].seen for name in checked} == {"no response (ConnectError)"}
    assert run.main(["--url", "http://127.0.0.1:9"]) == 1


@pytest.mark.parametrize("row", [row for row in rows.ROWS if row.needs_upstream], ids=lambda row: row.id)
def test_no_row_is_met_by_a_proxy_that_never_answers(nobody, row):
    """No check is vacuous: without a proxy each one reports that its expectation is not met."""
    nobody.upstream.reset()
    with pytest.raises(Differs):
        row.check(nobody)
