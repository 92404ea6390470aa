"""A made-up service account of Google's, and the endpoint that gives it access tokens."""

import functools
import json
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qs

import jwt
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

# What google-auth names in an assertion, whatever the address of the endpoint.
AUDIENCE = "https://oauth2.googleapis.com/token"
EMAIL = "proxy@made-up-project.iam.gserviceaccount.com"


@functools.cache
def key() -> rsa.RSAPrivateKey:
    return rsa.generate_private_key(65537, 2048)


def service_account(token_uri: str) -> dict[str, str]:
    """The JSON of a service account."""
    pem = key().private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()).decode()
    return {
        "type": "service_account",
        "project_id": "made-up-project",
        "private_key_id": "made-up",
        "private_key": pem,
        "client_email": EMAIL,
        "client_id": "1",
        "token_uri": token_uri,
    }


class TokenEndpoint:
    """Gives a new token for each assertion that the account has signed; ``issued`` has them all."""

    def __init__(self) -> None:
        self.issued: list[str] = []
        self.status = 200
        self.seconds = 3600
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(_Handler, self))
        self.url = f"http://127.0.0.1:{self._server.server_address[1]}/token"
        threading.Thread(target=self._server.serve_forever, daemon=True).start()

    def answer(self, form: dict[str, list[str]]) -> tuple[int, dict[str, object]]:
        if self.status != 200:
            return self.status, {"error": "invalid_grant", "error_description": f"{EMAIL} was made up"}
        claims = jwt.decode(form["assertion"][0], key().public_key(), algorithms=["RS256"], audience=AUDIENCE)
        assert claims["iss"] == EMAIL
        self.issued.append(f"ya29.made-up-access-token-{len(self.issued)}")
        return 200, {"access_token": self.issued[-1], "expires_in": self.seconds, "token_type": "Bearer"}

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()


class _Handler(BaseHTTPRequestHandler):
    def __init__(self, endpoint: TokenEndpoint, *more: object) -> None:
        self.endpoint = endpoint
        super().__init__(*more)  # type: ignore[arg-type]

    def do_POST(self) -> None:
        status, answer = self.endpoint.answer(parse_qs(self.rfile.read(int(self.headers["content-length"])).decode()))
        body = json.dumps(answer).encode()
        self.send_response(status)
        self.send_header("content-type", "application/json")
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        pass
