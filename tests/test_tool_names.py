"""openai/tool_names.py: tool names as a provider accepts them."""

import re

from hypothesis import given
from hypothesis import strategies as st

from claude_proxy.openai.tool_names import names_by_sent, sent_name

NAMES = st.text(max_size=90) | st.text("ab_-.", min_size=60, max_size=70)


@given(st.sets(NAMES, max_size=6))
def test_names(names):
    """Each name is valid and unique and can be decoded; a valid name is unchanged."""
    sent = {name: sent_name(name) for name in names}
    assert all(re.fullmatch(r"[A-Za-z0-9_-]{1,64}", one) for one in sent.values())
    assert len({*sent.values()}) == len(names)
    known = names_by_sent(names)
    assert {known.get(one, one) for one in sent.values()} == names
    assert all(sent[name] == name for name in names if re.fullmatch(r"[A-Za-z0-9_-]{1,64}", name))
    assert sent == {name: sent_name(name) for name in names}
