"""Start proxies by forking a process that has imported LiteLLM already, where a proxy cannot tell it from a start of its own.

Importing LiteLLM takes several seconds of a processor, and the tests start many proxies. Each process of pytest has one
template (``template.py``), from the first start that may use it on.
"""

import atexit
import functools
import json
import os
import socket
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import IO, Any

from dotenv import dotenv_values
from template import parent_of_orphans

TEMPLATE = Path(__file__).with_name("template.py")
# Variables that the imports do not read: only a start with no others is forked. The template checks that at each start.
READ_LATER = frozenset(
    {
        "ANTHROPIC_API_BASE",
        "AWS_ACCESS_KEY_ID",
        "AWS_REGION",
        "AWS_SECRET_ACCESS_KEY",
        "AZURE_API_BASE",
        "AZURE_API_KEY",
        "CLAUDE_API_KEYS",
        "CLAUDE_API_KEYS_FILE",
        "CLAUDE_CREDENTIALS_FILE",
        "CLAUDE_EXTRA_USAGE",
        "CLAUDE_OAUTH_TOKENS",
        "CLAUDE_OAUTH_TOKENS_FILE",
        "CLAUDE_POOL_MAX_WAIT_SECONDS",
        "CLAUDE_POOL_ORDER",
        "CLAUDE_POOL_STATE_FILE",
        "CLAUDE_PROXY_IMAGE",
        "CLAUDE_TOKEN_AFFINITY",
        "CLAUDE_TOKEN_COOLDOWN_SECONDS",
        "CLAUDE_TOKEN_MODE",
        "CLAUDE_TOKEN_QUARANTINE_SECONDS",
        "CLAUDE_TOKEN_SOFT_LIMIT",
        "COLLECTOR_KEY",
        "DEEPSEEK_API_KEY",
        "GEMINI_API_KEY",
        "GITHUB_COPILOT_TOKEN_DIR",
        "GROQ_API_KEY",
        "HF_TOKEN",
        "HOST",
        "HTTPS_PORT",
        "HTTP_PORT",
        "KIMI_API_KEY",
        "LITELLM_MASTER_KEY",
        "LITELLM_MASTER_KEY_FILE",
        "MADE_UP_OIDC_SECRET",
        "MADE_UP_SEARCH_KEY",
        "MADE_UP_TOKEN",
        "NUM_WORKERS",
        "OPENAI_API_KEY",
        "OPENROUTER_API_KEY",
        "OTHER_CREDENTIALS",
        "PORT",
        "PROXY_BIND",
        "PROXY_DOMAIN",
        "PROXY_DRAIN_SECONDS",
        "PROXY_LOG_FORMAT",
        "PROXY_SIGNING_KEYS_FILE",
        "PROXY_STATIC_TOKEN",
        "PROXY_STATIC_TOKEN_FILE",
        "PROXY_USER_TOKENS",
        "PROXY_USER_TOKENS_FILE",
        "REDIS_URL",
        "SCALE_PORT",
        "TOGETHERAI_API_KEY",
        "VERTEX_CREDENTIALS",
        "VERTEX_LOCATION",
        "VERTEX_PROJECT",
        "WATCH_PORT",
        "ZAI_API_KEY",
        "ZAI_API_KEY_FILE",
    }
)
# And one whose value takes an import of its own, that of Prisma's client: only an empty one is read later.
EMPTY = frozenset({"DATABASE_URL"})
# What LiteLLM reads when it is imported, for every proxy: its pauses before retries are a hundredth of what they are, and even.
AT_IMPORT = {"INITIAL_RETRY_DELAY": "0.005", "JITTER": "0"}


def may_fork(environment: Mapping[str, str], dotenv: Path) -> bool:
    """Whether a start with these variables, and those of a ``.env``, is the same after LiteLLM's import as before it."""
    values = {**dotenv_values(dotenv, interpolate=False), **environment}
    names = {*values} - READ_LATER - {"HOME"} - {name for name in EMPTY if not values.get(name)}
    same = {name: environment.get(name) for name in names}
    return sys.platform == "linux" and same == AT_IMPORT | {"PATH": os.environ["PATH"]} and template().path == same["PATH"]


class Template:
    """The process that is forked. It ends with this one, which holds the other end of its socket."""

    def __init__(self) -> None:
        self.path = os.environ["PATH"]
        self._channel, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        # Python itself reads HOME for the folder of a user's packages, of which there are none.
        self._home = tempfile.TemporaryDirectory()
        with theirs:
            self._process = subprocess.Popen(
                [sys.executable, str(TEMPLATE), str(theirs.fileno())],
                cwd=TEMPLATE.parents[2],
                # One thread: NumPy starts one for each processor.
                env={"PATH": self.path, "HOME": self._home.name, "OPENBLAS_NUM_THREADS": "1", **AT_IMPORT},
                pass_fds=(theirs.fileno(),),
                stdin=subprocess.DEVNULL,
                start_new_session=True,  # what ends the tests, a Ctrl-C too, leaves it the time to end its proxies
                stdout=subprocess.DEVNULL,
            )
        read = (READ_LATER | EMPTY).intersection(json.loads(self._channel.recv(1 << 17)))
        assert not read, f"{sorted(read)} are read while LiteLLM is imported: starts with them cannot be forked"

    def fork(self, job: Mapping[str, Any], log: IO[bytes]) -> int:
        """Return the id of a new process, a child of this one."""
        with parent_of_orphans():
            socket.send_fds(self._channel, [json.dumps(job).encode()], [log.fileno()])
            if not (number := self._channel.recv(32)):
                raise RuntimeError("the template has ended")
            return int(number)

    def close(self) -> None:
        self._channel.close()
        self._process.wait(30)
        self._home.cleanup()


@functools.cache
def template() -> Template:
    """Return this process's template."""
    made = Template()
    atexit.register(made.close)
    return made


class Forked(subprocess.Popen[bytes]):
    """A proxy, or another program, that was forked: a child of this process like any that it starts."""

    def __init__(
        self,
        arguments: list[str],
        environment: dict[str, str],
        log: IO[bytes],
        program: Path | None = None,
        files: int | None = None,
    ) -> None:
        self._job = {"arguments": arguments, "environment": environment, "program": program and str(program), "files": files}
        self._log = log
        super().__init__(["claude_proxy", *arguments])

    def _execute_child(self, *_: object, **__: object) -> None:
        self.pid = template().fork(self._job, self._log)
        self._child_created = True
