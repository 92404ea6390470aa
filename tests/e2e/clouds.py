"""Bedrock and Vertex AI on loopback: each checks the credential of a request before it answers, as the clouds do."""

import base64
import json
from collections.abc import Callable, Iterable
from typing import Any
from urllib.parse import unquote

import upstream as up
from service_accounts import TokenEndpoint
from signatures import check_signature

from claude_proxy.providers.event_stream import MEDIA_TYPE, frame

KEY, SECRET, REGION = "AKIAMADEUP0000000001", "made-up-secret-key/0123456789+abcdefghij", "us-east-1"
BEARER = "bedrock-api-key-made-up-0123456789"
ACCOUNT, PROJECT = "123456789012", "made-up-project"
ROLE = f"arn:aws:sts::{ACCOUNT}:assumed-role/made-up-role/session"
JSON = {"content-type": "application/json"}
USAGE = {"input_tokens": 1000, "output_tokens": 500, "cache_read_input_tokens": 0, "cache_creation_input_tokens": 0}

Script = Callable[[up.Seen], up.Reply | None]


def nothing(_: up.Seen) -> up.Reply | None:
    return None


class Clouds:
    """Both clouds. ``script`` answers first; what it leaves is answered well. ``asked`` has the requests for models."""

    def __init__(self) -> None:
        self.tokens = TokenEndpoint()
        self.upstream = up.Upstream(self.answer)
        self.script: Script = nothing
        self.url = self.upstream.other_url

    @property
    def asked(self) -> list[up.Seen]:
        return self.upstream.asked

    def reset(self) -> None:
        self.script = nothing
        self.upstream.seen.clear()

    def close(self) -> None:
        self.upstream.close()
        self.tokens.close()

    def answer(self, seen: up.Seen) -> up.Reply:
        problem = self.problem(seen)
        if problem:
            return aws_error(403, "InvalidSignatureException", f"{ROLE}: {problem}")
        return self.script(seen) or good(seen)

    def problem(self, seen: up.Seen) -> str:
        """What is wrong with the credential of a request."""
        for name in ("x-api-key", "x-litellm-api-key", "cookie"):
            if seen.header(name) is not None:
                return f"{name} was sent"
        authorization = seen.header("authorization") or ""
        if seen.path.startswith("/google/") or seen.path.startswith("/v1/projects/"):
            known = {f"Bearer {token}" for token in self.tokens.issued}
            return "" if authorization in known else "not a token of the endpoint"
        if authorization == f"Bearer {BEARER}":
            return ""
        return check_signature(
            seen.method, f"{self.url}{seen.path}", dict(seen.headers), seen.body, {KEY: SECRET}, region=REGION
        )


def model_of(seen: up.Seen) -> str:
    """The cloud's id in the path."""
    parts = unquote(seen.path).split("/models/" if "/models/" in seen.path else "/model/", 1)[1]
    return parts.rsplit(":", 1)[0] if "/models/" in seen.path else parts.rsplit("/", 1)[0]


def good(seen: up.Seen, *blocks: dict[str, Any]) -> up.Reply:
    """A good answer in the form of the cloud and of the action."""
    if "count-tokens" in seen.path:
        return reply_of({"inputTokens" if "/model/" in seen.path else "input_tokens": 4711})
    message = up.message(*(blocks or (up.text("from the cloud"),)), model=model_of(seen)) | {"usage": USAGE}
    if seen.path.endswith("/invoke-with-response-stream"):
        return framed(*map(chunk, up.events_of(message)))
    if seen.path.endswith(":streamRawPredict"):
        return up.Reply(headers={"content-type": "text/event-stream; charset=utf-8"}, chunks=up.sse(*up.events_of(message)))
    return reply_of(message)


def reply_of(body: dict[str, Any]) -> up.Reply:
    return up.Reply(headers=JSON | {"x-amzn-requestid": f"made-up-{next(up.ids)}"}, body=json.dumps(body).encode())


def framed(*frames: bytes, drop: bool = False) -> up.Reply:
    return up.Reply(headers={"content-type": MEDIA_TYPE}, chunks=frames, drop=drop)


def chunk(event: dict[str, Any]) -> bytes:
    """An event as AWS frames it."""
    headers = {":event-type": "chunk", ":content-type": "application/json", ":message-type": "event"}
    coded = base64.b64encode(json.dumps(event).encode()).decode()
    return frame(headers, json.dumps({"bytes": coded, "p": "abcdefghijklmnop"}).encode())


def exception(name: str, message: str) -> bytes:
    headers = {":exception-type": name, ":content-type": "application/json", ":message-type": "exception"}
    return frame(headers, json.dumps({"message": message}).encode())


def aws_error(status: int, name: str, message: str, **headers: str) -> up.Reply:
    named = {key.replace("_", "-"): value for key, value in headers.items()}
    return up.Reply(status, JSON | {"x-amzn-errortype": name} | named, json.dumps({"message": message}).encode())


def google_error(status: int, name: str, message: str) -> up.Reply:
    return up.Reply(status, JSON, json.dumps({"error": {"code": status, "message": message, "status": name}}).encode())


def stopped(frames: Iterable[bytes], after: int) -> Iterable[bytes]:
    """The first frames of a stream, the last of which is cut in half."""
    whole = [*frames]
    return [*whole[:after], whole[after][: len(whole[after]) // 2]]
