"""Many requests that wait for one credential, through the real proxy."""

import threading

import upstream as up
from conftest import TOKENS, by_credential
from processes import answer_text, new_question

USERS = {"anna": "sk-made-up-token-of-anna-0123456789", "ben": "sk-made-up-token-of-ben-0123456789"}
WAITING = 20


def test_one_request_finds_out_for_all(start_proxy, upstream):
    """While the credential is limited still, one request of many asks it when it is back; when it is good, all are served."""
    asked, limited = [], threading.Event()

    def twice_limited(seen: up.Seen) -> up.Reply:
        asked.append(seen)
        if len(asked) <= 2:
            limited.set()
            return up.anthropic_error(429, "rate_limit_error", "limit", retry_after="2")
        return up.anthropic_reply(seen, up.text("served"))

    upstream.answer = by_credential(a=twice_limited)
    users = ",".join(f"{name}={token}" for name, token in USERS.items())
    proxy = start_proxy(CLAUDE_OAUTH_TOKENS=f"a={TOKENS['a']}", CLAUDE_POOL_MAX_WAIT_SECONDS="60", PROXY_USER_TOKENS=users)
    came = []

    def ask(token: str) -> None:
        answer = proxy.ask(new_question("claude-sonnet-5"), token=token)
        came.append((answer.status_code, answer_text(answer)))

    tokens = [USERS["ben"], *[USERS["anna"]] * (WAITING - 2), USERS["ben"]]
    clients = [threading.Thread(target=ask, args=(token,)) for token in tokens]
    clients[0].start()
    assert limited.wait(30)
    for client in clients[1:]:
        client.start()
    for client in clients:
        client.join()
    assert came == [(200, "served")] * WAITING
    assert len(asked) == 2 + WAITING
