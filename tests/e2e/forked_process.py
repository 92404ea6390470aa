"""The proxies that ``conformance/`` and ``benchmarks/`` start, forked where that may be."""

from collections.abc import Mapping, Sequence
from pathlib import Path

from forking import AT_IMPORT, Forked, may_fork
from processes import Proxy, clean_environment

from conformance.proxies import Process


class ForkedProcess(Process):
    """Takes the place of ``Process`` in a module that starts this project's proxy, by ``-m claude_proxy`` or ``-c``."""

    def __init__(self, home: Path, command: Sequence[str], port: int, environment: Mapping[str, str]) -> None:
        variables = clean_environment(home, **AT_IMPORT, **environment)
        if Proxy.fresh or not may_fork(variables, home / ".env"):
            super().__init__(home, command, port, environment)
            return
        self.url, self.log = f"http://127.0.0.1:{port}", home / "proxy.log"
        _, option, first, *arguments = command
        program = None
        if option == "-c":
            program = home / "program.py"
            program.write_text(first, encoding="utf-8")
        else:
            assert (option, first) == ("-m", "claude_proxy")
        with self.log.open("wb") as log:
            self._process = Forked(arguments, variables, log, program)
