"""A loopback stand-in of Anthropic's batches and files: each API key has an account of its own."""

import itertools
import json
import threading
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import parse_qs

import upstream as up

BATCHES, FILES = "/v1/messages/batches", "/v1/files"


@dataclass
class Account:
    """What one key has made."""

    files: dict[str, bytes] = field(default_factory=dict)
    batches: dict[str, dict[str, Any]] = field(default_factory=dict)
    canceled: set[str] = field(default_factory=set)


def error(status: int, kind: str, words: str = "made up", **headers: str) -> up.Reply:
    body = json.dumps({"type": "error", "error": {"type": kind, "message": words}}).encode()
    return up.Reply(status, {"content-type": "application/json"} | headers, body)


def as_json(found: object) -> up.Reply:
    return up.Reply(200, {"content-type": "application/json", "request-id": "req_made_up"}, json.dumps(found).encode())


class AccountUpstream:
    """``answer`` is the function of an ``Upstream``. ``instead`` replaces the reply to a method and path."""

    def __init__(self) -> None:
        self.accounts: dict[str, Account] = {}
        self.instead: dict[tuple[str, str], up.Reply] = {}
        # The credential that has reached its limit.
        self.limited = ""
        # A batch is made once this is set.
        self.free = threading.Event()
        self.free.set()
        self._numbers = itertools.count(1)

    def answer(self, seen: up.Seen) -> up.Reply:
        if (reply := self.instead.get((seen.method, seen.path))) is not None:
            return reply
        if self.limited and seen.credential == self.limited:
            return error(429, "rate_limit_error", "limit", **{"retry-after": "1"})
        account = self.accounts.setdefault(seen.credential or "", Account())
        if seen.path.startswith(BATCHES):
            return self._batches(seen, account, seen.path[len(BATCHES) + 1 :])
        if seen.path.startswith(FILES):
            return self._files(seen, account, seen.path[len(FILES) + 1 :])
        if seen.path == "/v1/messages":
            return self._message(seen, account)
        return error(404, "not_found_error")

    def _message(self, seen: up.Seen, account: Account) -> up.Reply:
        named = [source["file_id"] for turn in seen.json["messages"] for source in _sources(turn["content"])]
        if any(one not in account.files for one in named):
            return error(404, "not_found_error", "File not found")
        if not seen.json.get("tools"):
            return up.anthropic_reply(seen, up.text("from claude"))
        identifier = f"file_{next(self._numbers):04}"
        account.files[identifier] = b"written by claude"
        outputs = [{"type": "code_execution_output", "file_id": identifier}]
        result = {"type": "code_execution_result", "stdout": "", "content": outputs}
        return as_json(up.message({"type": "code_execution_tool_result", "tool_use_id": "t", "content": result}))

    # --- Batches -------------------------------------------------------------------------------------------------------------

    def _batches(self, seen: up.Seen, account: Account, rest: str) -> up.Reply:
        identifier, _, action = rest.partition("/")
        if seen.method == "POST" and not identifier:
            self.free.wait(30)
            identifier = f"msgbatch_{next(self._numbers):04}"
            account.batches[identifier] = seen.json
            return as_json(self._batch(account, identifier))
        if not identifier:
            return _page(seen, [self._batch(account, one) for one in reversed(account.batches)])
        if identifier not in account.batches:
            return error(404, "not_found_error")
        if action == "results":
            lines = [self._result(account, identifier, entry) for entry in account.batches[identifier]["requests"]]
            return up.Reply(200, {"content-type": "application/x-jsonl"}, chunks=[line + b"\n" for line in lines])
        if action == "cancel":
            account.canceled.add(identifier)
        if seen.method == "DELETE":
            del account.batches[identifier]
            return as_json({"id": identifier, "type": "message_batch_deleted"})
        return as_json(self._batch(account, identifier))

    def _batch(self, account: Account, identifier: str) -> dict[str, Any]:
        url = f"https://api.anthropic.com{BATCHES}/{identifier}/results"
        status = "canceling" if identifier in account.canceled else "ended"
        return {"id": identifier, "type": "message_batch", "processing_status": status, "results_url": url}

    def _result(self, account: Account, identifier: str, entry: dict[str, Any]) -> bytes:
        message = up.message(up.text("from a batch"), model=entry["params"]["model"])
        result = {"type": "succeeded", "message": message}
        if identifier in account.canceled:
            result = {"type": "canceled"}
        return json.dumps({"custom_id": entry["custom_id"], "result": result}).encode()

    # --- Files ---------------------------------------------------------------------------------------------------------------

    def _files(self, seen: up.Seen, account: Account, rest: str) -> up.Reply:
        identifier, _, action = rest.partition("/")
        if seen.method == "POST":
            identifier = f"file_{next(self._numbers):04}"
            _, _, content = seen.body.partition(b"\r\n\r\n")
            account.files[identifier] = content[: content.rindex(b"\r\n--")]
            return as_json(_file(account, identifier))
        if not identifier:
            return _page(seen, [_file(account, one) for one in reversed(account.files)])
        if identifier not in account.files:
            return error(404, "not_found_error")
        if action == "content":
            return up.Reply(200, {"content-type": "text/html"}, account.files[identifier])
        if seen.method == "DELETE":
            del account.files[identifier]
            return as_json({"id": identifier, "type": "file_deleted"})
        return as_json(_file(account, identifier))


def _file(account: Account, identifier: str) -> dict[str, Any]:
    return {"id": identifier, "type": "file", "size_bytes": len(account.files[identifier]), "filename": "a.html"}


def _page(seen: up.Seen, data: list[dict[str, Any]]) -> up.Reply:
    limit = int(parse_qs(seen.query).get("limit", ["20"])[0])
    return as_json({"data": data[:limit], "has_more": len(data) > limit})


def _sources(content: Any) -> list[dict[str, Any]]:
    blocks = content if isinstance(content, list) else []
    return [block["source"] for block in blocks if block.get("source", {}).get("type") == "file"]
