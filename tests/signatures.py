"""Checks AWS's signature of a request, computed from its documentation and not with botocore."""

import hashlib
import hmac
from collections.abc import Mapping
from urllib.parse import quote, urlsplit

SERVICE = "bedrock"


def check_signature(
    method: str, url: str, headers: Mapping[str, str], body: bytes, keys: Mapping[str, str], *, region: str
) -> str:
    """Return what is wrong with a request's signature; empty for a valid one. ``keys`` has the secret of each key."""
    named = {name.lower(): value for name, value in headers.items()}
    named.setdefault("host", urlsplit(url).netloc)
    scheme, _, rest = named.get("authorization", "").partition(" ")
    if scheme != "AWS4-HMAC-SHA256":
        return f"no signature, but {scheme or 'nothing'}"
    parts = dict(part.strip().split("=", 1) for part in rest.split(","))
    key, date, *scope = parts["Credential"].split("/")
    if scope != [region, SERVICE, "aws4_request"] or key not in keys:
        return f"the scope {key}/{date}/{'/'.join(scope)}"
    covered = parts["SignedHeaders"].split(";")
    missing = {"host", "x-amz-date"} | {name for name in named if name.startswith("x-amz-")}
    if not missing <= {*covered}:
        return f"headers without a signature: {missing - {*covered}}"
    # Each part of the path is encoded once more than it was sent.
    path = "/".join(quote(part, safe="-_.~") for part in urlsplit(url).path.split("/"))
    lines = [method, path, "", *(f"{name}:{' '.join(named[name].split())}" for name in covered), "", ";".join(covered)]
    canonical = "\n".join([*lines, hashlib.sha256(body).hexdigest()])
    text = "\n".join(
        ["AWS4-HMAC-SHA256", named["x-amz-date"], "/".join([date, *scope]), hashlib.sha256(canonical.encode()).hexdigest()]
    )
    secret = f"AWS4{keys[key]}".encode()
    for part in (date, *scope):
        secret = hmac.new(secret, part.encode(), hashlib.sha256).digest()
    expected = hmac.new(secret, text.encode(), hashlib.sha256).hexdigest()
    return "" if hmac.compare_digest(expected, parts["Signature"]) else "the signature does not match"
