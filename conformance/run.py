"""``make conformance``: checks the table, prints it, and writes ``docs/CONFORMANCE.md``.

With the URL of a running proxy it checks that proxy and writes no document.
"""

import argparse
import functools
import os
import sys
import tempfile
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path

import claude_proxy
from conformance import proxies
from conformance.rows import GROUPS, ROWS, Row
from conformance.target import Differs, Target
from conformance.upstream import Upstream

DOCUMENT = proxies.ROOT / "docs" / "CONFORMANCE.md"
NO_UPSTREAM = "needs the suite's upstream behind the proxy"
CLAUDE_CODE = "2.1.197"
PROTOCOL_PAGE = "https://code.claude.com/docs/en/llm-gateway-protocol"


@dataclass(frozen=True)
class Result:
    """The result of a row: met, not met, or None if not checked; ``seen`` says what was found instead."""

    met: bool | None
    seen: str = ""

    @property
    def word(self) -> str:
        """The result as a word."""
        return {True: "yes", False: "NO", None: "not checked"}[self.met]


Results = Mapping[str, Result]


def main(arguments: Sequence[str] | None = None) -> int:
    """Return 1 if a row of the proxy under test fails."""
    parser = argparse.ArgumentParser(description="Check a gateway against Claude Code's expectations.")
    parser.add_argument("--url", help="a running proxy; its token is read from the variable TOKEN")
    parser.add_argument(
        "--upstream-port",
        type=int,
        help="the port of the suite's upstream in the role of Anthropic; the next port has the role of other providers",
    )
    options = parser.parse_args(arguments)
    if options.url:
        results = check_url(options.url, os.environ.get("TOKEN", ""), options.upstream_port)
        sys.stdout.write(table({options.url: results}))
        return int(any(result.met is False for result in results.values()))
    ours, bare = compare()
    sys.stdout.write(table({"claude-proxy": ours, "LiteLLM alone": bare}))
    DOCUMENT.parent.mkdir(exist_ok=True)
    DOCUMENT.write_text(document(ours, bare), encoding="utf-8")
    return int(any(not result.met for result in ours.values()))


def check_url(url: str, token: str, upstream_port: int | None) -> Results:
    """Check a running proxy; rows that need the suite's upstream are checked only if the proxy uses it."""
    upstream = Upstream(upstream_port) if upstream_port else None
    target = Target(url, token, upstream)
    try:
        if upstream is not None and not target.reaches_upstream():
            sys.stdout.write(f"{upstream.url} received no request through {url}.\n")
            target = Target(url, token)
        return run(ROWS, target)
    finally:
        target.close()
        if upstream is not None:
            upstream.close()


def compare() -> tuple[Results, Results]:
    """Start the proxies and check them at the same time, each with an upstream of its own.

    A row of this project's proxy is met if it is met both directly and through LiteLLM.
    """
    with tempfile.TemporaryDirectory() as folder, ThreadPoolExecutor(3) as pool:
        entered = functools.partial(proxies.ours, through_litellm=True)
        pairs = [("ours", proxies.ours), ("entered", entered), ("bare", proxies.bare)]
        ours, through, bare = pool.map(lambda pair: check_started(pair[1], Path(folder) / pair[0]), pairs)
    return {row: _both(ours[row], through[row]) for row in ours}, bare


def _both(direct: Result, through: Result) -> Result:
    """Return the combined result of a row, directly and through LiteLLM."""
    if direct.met and not through.met:
        return Result(through.met, f"through LiteLLM: {through.seen}")
    return direct


def check_started(start: Callable[[Path, Upstream], proxies.Process], home: Path, rows: Iterable[Row] = ROWS) -> Results:
    """Start a proxy with an upstream, check it, and stop both."""
    upstream = Upstream()
    process = start(home, upstream)
    target = Target(process.url, proxies.TOKEN, upstream)
    try:
        process.wait_ready()
        return run(rows, target)
    finally:
        target.close()
        process.stop()
        upstream.close()


def run(rows: Iterable[Row], target: Target) -> Results:
    """Check each row, each time with a reset upstream."""
    return {row.id: _result(row, target) for row in rows}


def _result(row: Row, target: Target) -> Result:
    if row.needs_upstream and not target.has_upstream:
        return Result(None, NO_UPSTREAM)
    if target.has_upstream:
        target.upstream.reset()
    try:
        row.check(target)
    except Differs as differs:
        return Result(met=False, seen=str(differs))
    return Result(met=True)


def table(columns: Mapping[str, Results]) -> str:
    """Return the table for a terminal: a line per row, followed by what was found instead."""
    width = max(len(row.id) for row in ROWS)
    lines = ["".join([f"{'':<{width + 2}}", *(f"{name:<16}" for name in columns)]).rstrip()]
    for heading, rows in GROUPS.items():
        lines += ["", heading]
        for row in rows:
            found = {name: results[row.id] for name, results in columns.items()}
            words = "".join(f"{result.word:<16}" for result in found.values())
            lines.append(f"{row.id:<{width + 2}}{words}{row.expectation}")
            lines += [f"{'':<{width + 2}}{name}: {result.seen}" for name, result in found.items() if result.seen]
    lines += ["", *(f"{name}: {counted(results)}" for name, results in columns.items())]
    return "\n".join(lines) + "\n"


def counted(results: Results) -> str:
    """Return how many rows are met, in words."""
    checked = [result for result in results.values() if result.met is not None]
    rest = len(results) - len(checked)
    return f"{sum(bool(result.met) for result in checked)} of {len(checked)} rows" + (f", {rest} not checked" if rest else "")


def document(ours: Results, bare: Results) -> str:
    """Return the document; equal results give an equal document."""
    lines = [
        "# Conformance",
        "",
        "Claude Code's expectations of a gateway between it and Claude, checked against this proxy and against LiteLLM's own",
        "proxy of the same version. This page was written by `make conformance`; do not edit it.",
        "",
        f"- claude-proxy {claude_proxy.__version__}: {counted(ours)}",
        f"- LiteLLM {version('litellm')} alone: {counted(bare)}",
        "",
        "LiteLLM runs from the same virtual environment with a simple configuration, as its guides for Claude Code",
        "describe: `anthropic/*`, `claude-*`, a model with OpenAI's format, one with Anthropic's format and its own",
        "address, a master key, and `forward_client_headers_to_llm_api` for clients with their own Claude login. It also",
        "has the option that sends requests for `openai/` models to `/v1/chat/completions`, and no cooldowns, so that",
        "rows do not affect each other. This proxy runs with the routes and settings of `config.yaml.example`, without a",
        "pool and without fallbacks, once directly and once with a setting that sends every request through LiteLLM; a",
        "row is met if it is met both times. Both proxies use a scripted upstream on loopback, and the client's requests",
        "have the shape of Claude Code's. No real provider was used.",
        "",
        f"Sources: [Anthropic's gateway protocol]({PROTOCOL_PAGE});",
        f"the observed behaviour of Claude Code {CLAUDE_CODE}; and this project's own promises.",
        "",
        "For another proxy: `make conformance URL=http://... TOKEN=...`. Rows that need the proxy's own requests are checked",
        "only if the proxy uses the suite's upstream: add `UPSTREAM_PORT=9100`, set Claude's address to `http://127.0.0.1:9100`,",
        "and add the models `conformance-openai` (`http://127.0.0.1:9101/openai/v1`) and `conformance-third-party`",
        "(`http://127.0.0.1:9101/third`), both with their own keys.",
    ]
    for heading, rows in GROUPS.items():
        lines += [
            "",
            f"## {heading}",
            "",
            "| Row | Expectation | Source | claude-proxy | LiteLLM alone |",
            "| --- | --- | --- | --- | --- |",
        ]
        lines += [
            f"| {row.id} | {_cell(row.expectation)} | {row.source} | {_said(ours[row.id])} | {_said(bare[row.id])} |"
            for row in rows
        ]
    return "\n".join(lines) + "\n"


def _said(result: Result) -> str:
    return _cell(f"{result.word}: {result.seen}" if result.seen else result.word)


def _cell(text: str) -> str:
    return text.replace("|", "\\|")


if __name__ == "__main__":
    raise SystemExit(main())
