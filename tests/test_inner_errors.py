"""openai/inner_errors.py: errors inside a response with status 200."""

import pytest

from claude_proxy.openai.inner_errors import MINIMAX, inner_error

WORDS = "made up"


@pytest.mark.parametrize(
    ("said", "choice", "kind"),
    [
        ({"error": {"message": WORDS, "code": 429}}, {}, "rate_limit_error"),
        ({"error": {"message": WORDS, "code": "502"}}, {}, "api_error"),
        ({"error": {"message": WORDS, "status": 529}}, {}, "overloaded_error"),
        ({"error": {"message": WORDS, "code": "1234"}}, {}, "api_error"),
        ({"error": {"message": WORDS, "code": "rate_limit"}}, {}, "api_error"),
        ({"error": {"message": WORDS, "code": 200}}, {}, "api_error"),
        ({"error": {"message": WORDS}}, {}, "api_error"),
        ({"error": WORDS, "error_type": "overloaded"}, {}, "api_error"),
        ({}, {"error": {"message": WORDS, "code": 400}}, "invalid_request_error"),
        ({"object": "error", "message": WORDS, "code": 400}, {}, "invalid_request_error"),
        ({"object": "error", "message": WORDS, "type": "internal_server_error", "code": "1000"}, {}, "api_error"),
        ({"base_resp": {"status_code": 1002, "status_msg": WORDS}, "choices": None}, {}, "rate_limit_error"),
        ({"base_resp": {"status_code": 1004, "status_msg": WORDS}}, {}, "authentication_error"),
        ({"base_resp": {"status_code": 2013, "status_msg": WORDS}}, {}, "invalid_request_error"),
        ({"base_resp": {"status_code": 1000, "status_msg": WORDS}}, {}, "api_error"),
        ({"base_resp": {"status_code": "odd", "status_msg": WORDS}}, {}, "api_error"),
    ],
)
def test_an_error(said, choice, kind):
    """The message is the provider's, and the type follows from its code if there is one."""
    assert inner_error(said, choice) == (kind, WORDS)


@pytest.mark.parametrize(
    "said",
    [
        {}, {"error": None}, {"error": {}}, {"object": "chat.completion.chunk"}, {"base_resp": None},
        {"base_resp": {"status_code": 0, "status_msg": "Invalid parameters detected"}},
    ],
)  # fmt: skip
def test_no_error(said):
    """An empty field and a status of success are no errors."""
    assert inner_error(said, {}) is None


@pytest.mark.parametrize("error", [{"code": 500}, {"message": 7}, [1]])
def test_without_words(error):
    """An error without a message gets one."""
    assert inner_error({"error": error}, {})[1]


def test_the_codes_of_minimax():
    """Each of MiniMax's codes maps to an error status."""
    assert all(400 <= status < 500 for status in MINIMAX.values())
