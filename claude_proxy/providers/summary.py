"""The table of providers for the documents, generated from the rows."""

from collections.abc import Iterator

from claude_proxy.providers.compatibility import ROWS, STRICT, Dialect, Thinking

HEADINGS = ("Provider", "Cache marks", "Thinking", "Images", "PDFs", "Server tools", "Other")
THINKING = {
    Thinking.NONE: "removed",
    Thinking.OWN: "the provider's own",
    Thinking.OWN_OR_OFF: "the provider's own; disabled after another model's tool calls",
    Thinking.CLAUDE: "Claude's own",
}


COMPATIBLE = "openai-compatible"


def table() -> str:
    """Return the table in Markdown, with the strictest row last."""
    lines = [HEADINGS, ("---",) * len(HEADINGS), *map(_cells, (*ROWS, STRICT))]
    return "\n".join(f"| {' | '.join(cells)} |" for cells in lines)


def _cells(row: Dialect) -> tuple[str, ...]:
    return (
        _name(row),
        "kept" if row.cache_control else "removed",
        THINKING[row.thinking],
        "unchanged" if row.images else "replaced by a note",
        _pdfs(row),
        ", ".join(f"`{tool}`" for tool in row.server_tools) or "as text",
        "; ".join(_besides(row)),
    )


def _name(row: Dialect) -> str:
    if row is STRICT:
        return "any other provider"
    hosts = " or ".join(f"`{host}`" for host in row.hosts)
    server = f"`openai/` with `chat_server: {row.server}`" if row.server else ""
    if server:
        return f"`{row.prefix}/`, and {server}" if row.prefix else server
    if not row.prefix:
        return f"`anthropic/` at {hosts}"
    below = " or ".join(f"`{host}`" for host in row.chat_hosts)
    at = f" at {hosts}" if hosts else f", and `openai/` at {below}" if below else " elsewhere" if row.name == COMPATIBLE else ""
    return f"`{row.prefix}/`{f' ({row.vendor})' if row.vendor else ''}{at}"


def _pdfs(row: Dialect) -> str:
    if not row.images:
        return "replaced by a note"
    return "as a file" if row.files else "replaced by a note" if _is_chat(row) else "unchanged"


def _besides(row: Dialect) -> Iterator[str]:
    if row.betas:
        yield f"{len(row.betas)} betas"
    if row.prompt_cache_key:
        yield "prompt cache key"
    if row.signs_calls:
        yield "call signatures are kept"
    if row.numbered_calls:
        yield "numbered call ids"
    if _is_chat(row):
        yield from _of_chat(row)


def _is_chat(row: Dialect) -> bool:
    """Whether the provider gets a chat-completions request. Claude on a cloud gets Anthropic's format."""
    return bool(row.server or row.prefix) and row.thinking is not Thinking.CLAUDE


def _of_chat(row: Dialect) -> Iterator[str]:
    yield f"`{row.max_tokens}`"
    if row.top_k:
        yield "`top_k`"
    if row.stops:
        yield f"{row.stops} stop sequence{'s' if row.stops > 1 else ''}"
    if row.tools:
        yield f"{row.tools} tools"
    if not row.json_schema:
        yield "no response schema"
    if not row.named_choice:
        yield "a named tool choice sends that tool only"
