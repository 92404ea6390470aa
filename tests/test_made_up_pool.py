"""benchmarks/made_up_pool.py: twelve credentials in every state that the page shows."""

import logging

import pytest

from benchmarks import made_up_pool
from benchmarks.made_up_history import CREDENTIALS

# A Monday at 14:50 UTC, and a Sunday night.
TIMES = (1796050200.0, 1795930200.0)


@pytest.fixture(autouse=True)
def _quiet():
    """Silence the log lines about cooldowns."""
    logging.disable(logging.CRITICAL)
    yield
    logging.disable(logging.NOTSET)


@pytest.mark.parametrize("now", TIMES)
def test_the_pool_has_every_state(now):
    """Whenever it is made, its windows are as full as ``ACCOUNTS`` says, and one credential each is in each bad state."""
    pool = made_up_pool.pool(now, "made-up-salt")
    by_label = {one.credential.label: one for one in pool.snapshot()}
    assert [*by_label] == [*CREDENTIALS]
    for label, account in made_up_pool.ACCOUNTS.items():
        if not account.rejected:
            used = {name: window.utilization for (_, name), window in by_label[label].windows.items()}
            assert used["5h"] == pytest.approx(account.five_hours, abs=0.05)
            assert used["7d"] == pytest.approx(account.seven_days, abs=0.05)
    cooling = {label: [*map(str, one.cooldowns)] for label, one in by_label.items() if one.cooldowns}
    assert cooling == {"cedar": [""], "ember": [""], "heron": ["opus"]}
    assert [label for label, one in by_label.items() if one.disabled] == ["jade"]
    assert by_label[made_up_pool.KEY].windows == {}
    assert len(made_up_pool.usable(pool)) == 8


def test_the_file_has_the_same_credentials():
    """``credentials.yaml`` names each with its terms, and the day on which a setup token was made."""
    found = {entry["label"]: entry for entry in made_up_pool.entries(TIMES[0])}
    assert [*found] == [*CREDENTIALS]
    assert found["fjord"] | {"secret": ""} == {"label": "fjord", "secret": "", "reserve": 0.2, "owner": "fatima"}
    assert found["karst"]["made"] == "2025-12-12"
    assert all("made-up" in str(entry["secret"]) for entry in found.values())
