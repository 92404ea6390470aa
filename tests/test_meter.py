"""providers/meter.py: an estimate of a request's tokens, corrected by its provider's earlier counts."""

import json
from pathlib import Path

import litellm
import pytest
from tokenizers import Tokenizer

from claude_proxy.anthropic.messages import for_provider
from claude_proxy.anthropic.token_estimate import FRAME_TOKENS, IMAGE_TOKENS
from claude_proxy.openai.chat_request import chat_body
from claude_proxy.providers.compatibility import ROWS, STRICT
from claude_proxy.providers.meter import MAX_NAMES, SMALLEST, Meter, Sent
from claude_proxy.providers.request_fields import translated

ROW = {row.name: row for row in ROWS}
KIMI = ROW["moonshot"]
PICTURE = {"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": "aQ=="}}
THOUGHT = {"type": "thinking", "thinking": "one two three", "signature": "x"}


def user(*blocks, **more):
    return {"messages": [{"role": "user", "content": [*blocks]}], **more}


def text(words):
    return {"type": "text", "text": words}


def sent(*blocks, row=STRICT, **more):
    return Sent(user(*blocks, **more), row)


LONG = sent(text("word " * 2000))


def words(said):
    return len(said.split())


def test_texts_are_counted_at_first():
    """A tokenizer counts until the provider has reported a plausible number for enough text without images."""
    meter = Meter(words)
    assert meter.tokens("a", LONG) == 2000 + FRAME_TOKENS
    meter.learn("a", sent(text("x" * 100)), 50)
    meter.learn("a", sent(text("word " * 2000), PICTURE), 50)
    meter.learn("a", LONG, 0)
    meter.learn("a", LONG, 10**9)
    assert meter.tokens("a", LONG) == 2000 + FRAME_TOKENS


def test_the_providers_numbers_count():
    """The next request with that much text gets the provider's number; other providers' estimates do not change."""
    meter = Meter(words)
    meter.learn("a", LONG, 3000)
    assert meter.tokens("a", LONG) == 3000
    assert meter.tokens("a", sent(text("word " * 4000))) == 6000
    assert meter.tokens("b", LONG) == 2000 + FRAME_TOKENS
    meter.learn("a", LONG, 4000)
    assert 3000 < meter.tokens("a", LONG) < 4000


def test_a_guess_counts_nothing():
    """A guess uses only the size, at the provider's rate once that is known."""
    meter = Meter(lambda _: pytest.fail("counted"))
    size = len("word ") * 2000
    assert meter.guess("a", LONG) == round(size / 4)
    assert meter.guess("a", sent(text("x"))) == 1
    meter = Meter(words)
    meter.learn("a", LONG, 3000)
    assert meter.guess("a", LONG) == 3000
    assert meter.guess("a", sent(text("word " * 2000), PICTURE)) == 3000 + IMAGE_TOKENS


def test_little_text():
    """A short text is counted, and the count is corrected by the ratio of the tokenizers."""
    meter, little = Meter(words), sent(text("one two three four five six"))
    meter.learn("a", LONG, 2 * (2000 + FRAME_TOKENS))
    assert meter.tokens("a", little) == 2 * (6 + FRAME_TOKENS)


def test_pictures():
    """Images are added to the estimate for the text."""
    meter = Meter(words)
    meter.learn("a", LONG, 3000)
    assert meter.tokens("a", sent(text("word " * 2000), PICTURE, PICTURE)) == 3000 + 2 * IMAGE_TOKENS


@pytest.mark.parametrize(
    ("more", "row", "counted"),
    [
        ({"system": "x-anthropic-billing-header: a"}, STRICT, False),
        ({"system": [text("x-anthropic-billing-header: a"), text("be kind")]}, STRICT, True),
        ({"tools": [{"type": "web_search_20250305", "name": "web_search"}]}, STRICT, False),
        ({"tools": [{"type": "web_search_20250305", "name": "web_search"}]}, ROW["vertex"], True),
        ({"tools": [{"name": "Read", "input_schema": {"type": "object"}}]}, STRICT, True),
        ({"tools": [{"name": "Read", "description": "half \ud83d"}]}, STRICT, True),
        ({"tools": "x", "system": 7}, STRICT, False),
    ],
)
def test_what_is_sent(more, row, counted):
    """What a provider does not get, it does not count."""
    assert (sent(text("one"), row=row, **more).size > 3) == counted


def test_thinking():
    """Thinking counts for a provider that gets its own back."""
    assert sent(THOUGHT, text("one")).size == 3
    assert sent(THOUGHT, text("one"), row=KIMI).size > 3


def test_bytes_and_no_characters():
    """Size is in bytes, because tokenizers make more tokens of non-Latin characters."""
    assert sent(text("é漢")).size == 5


def test_names_are_bounded():
    """The number of kept names is limited, because clients choose some of them."""
    meter = Meter(words)
    for number in range(MAX_NAMES + 5):
        meter.learn(f"m{number}", LONG, 3000)
    assert meter.tokens("m0", LONG) == 2000 + FRAME_TOKENS
    assert meter.tokens(f"m{MAX_NAMES}", LONG) == 3000


# --- what Claude Code really sends -------------------------------------------------------------------------------------------

FIXTURES = Path(__file__).resolve().parents[2] / "shared" / "fixtures"
# In a request of so little text a template's own words are a large part, and no part of a context window.
FEW_TOKENS = 30


def captured():
    """Return the bodies of recorded requests of Claude Code, by name."""
    bodies = {path.stem: json.loads(path.read_text(encoding="utf-8"))["body"] for path in sorted(FIXTURES.glob("*.json"))}
    return {name: body for name, body in bodies.items() if isinstance(body, dict) and "messages" in body}


def of_litellm(said):
    return int(litellm.token_counter(model="", text=said))


def another_tokenizer():
    """Return Anthropic's older tokenizer, which LiteLLM contains, in the role of the provider's."""
    folder = Path(litellm.__file__).parent / "litellm_core_utils" / "tokenizers"
    tokenizer = Tokenizer.from_file(str(folder / "anthropic_tokenizer.json"))
    return lambda said: len(tokenizer.encode(said).ids)


def providers_number(made, count):
    """Return a provider's count: the texts of the request that it gets, with some tokens for each of them."""
    texts, pictures = [json.dumps(tool, ensure_ascii=False) for tool in made.get("tools") or ()], 0
    for message in made["messages"]:
        content = message.get("content") or ""
        parts = [text(content)] if isinstance(content, str) else content
        texts += [part["text"] for part in parts if part["type"] == "text"]
        pictures += sum(part["type"] == "image_url" for part in parts)
        texts += [call["function"]["name"] + call["function"]["arguments"] for call in message.get("tool_calls") or ()]
    return count("\n".join(texts)) + 3 * len(texts) + 1500 * pictures


@pytest.mark.skipif(not FIXTURES.is_dir(), reason="no recorded requests of Claude Code's here")
@pytest.mark.parametrize("row", [ROW["openai-compatible"], ROW["vllm"], KIMI], ids=lambda row: row.name)
def test_the_meter_agrees_with_the_provider(row):
    """The estimate is within a tenth for every request, whichever other request the provider has counted before."""
    bodies, count = captured(), another_tokenizer()
    made = {name: chat_body(body, translated(for_provider(body), row), row, "m") for name, body in bodies.items()}
    numbers = {name: providers_number(one, count) for name, one in made.items()}
    measured = {name: Sent(body, row) for name, body in bodies.items()}
    learned = [name for name, one in measured.items() if one.size >= SMALLEST and not one.pictures]
    assert len(learned) > 10
    for before in learned:
        meter = Meter(of_litellm)
        meter.learn("m", measured[before], numbers[before])
        for name, one in measured.items():
            off = abs(meter.tokens("m", one) - numbers[name])
            assert off <= max(numbers[name] / 10, FEW_TOKENS), (before, name)
