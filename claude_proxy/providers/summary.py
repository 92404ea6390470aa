"""What each provider is sent and what comes back of it, as a table for people. Made of the rows, so that it cannot be wrong."""

from collections.abc import Iterator

from claude_proxy.providers.compatibility import ROWS, STRICT, Dialect, Thinking

HEADINGS = ("Provider", "Cache marks", "Thinking", "Images", "PDFs", "Server tools", "Besides")
THINKING = {
    Thinking.NONE: "lost",
    Thinking.OWN: "its own comes back to it",
    Thinking.OWN_OR_OFF: "its own; off where a turn of another model's calls tools",
    Thinking.CLAUDE: "Claude's own",
}


COMPATIBLE = "openai-compatible"


def table() -> str:
    """Return the table in Markdown, the strictest form last."""
    lines = [HEADINGS, ("---",) * len(HEADINGS), *map(_cells, (*ROWS, STRICT))]
    return "\n".join(f"| {' | '.join(cells)} |" for cells in lines)


def _cells(row: Dialect) -> tuple[str, ...]:
    return (
        _name(row),
        "kept" if row.cache_control else "lost",
        THINKING[row.thinking],
        "as they came" if row.images else "a sentence",
        _pdfs(row),
        ", ".join(f"`{tool}`" for tool in row.server_tools) or "as text",
        "; ".join(_besides(row)),
    )


def _name(row: Dialect) -> str:
    if row is STRICT:
        return "everybody else"
    hosts = " or ".join(f"`{host}`" for host in row.hosts)
    said = f"`openai/` with `chat_server: {row.server}`" if row.server else ""
    if said:
        return f"`{row.prefix}/`, and {said}" if row.prefix else said
    if not row.prefix:
        return f"`anthropic/` at {hosts}"
    below = " or ".join(f"`{host}`" for host in row.chat_hosts)
    at = f" at {hosts}" if hosts else f", and `openai/` at {below}" if below else " elsewhere" if row.name == COMPATIBLE else ""
    return f"`{row.prefix}/`{f' ({row.vendor})' if row.vendor else ''}{at}"


def _pdfs(row: Dialect) -> str:
    if not row.images:
        return "a sentence"
    return "as a file" if row.files else "a sentence" if _is_chat(row) else "as the format has them"


def _besides(row: Dialect) -> Iterator[str]:
    if row.betas:
        yield f"{len(row.betas)} betas"
    if row.prompt_cache_key:
        yield "a key for the prompt cache"
    if row.signs_calls:
        yield "its signatures of calls come back to it"
    if row.numbered_calls:
        yield "calls numbered through the conversation"
    if _is_chat(row):
        yield from _of_chat(row)


def _is_chat(row: Dialect) -> bool:
    """Whether a provider gets a chat completion's request; Claude on a cloud gets one of Anthropic's format."""
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
        yield "no schema for the answer"
    if not row.named_choice:
        yield "of a tool that is chosen by its name, that tool alone"
