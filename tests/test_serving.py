"""proxy/serving.py: which targets a request's plan asks, how often, and whose error the client gets when all have failed."""

import asyncio
import itertools
import json

import pytest
from lanes import Received

from claude_proxy.anthropic.errors import Refused, own_refusal
from claude_proxy.anthropic.sse import KEEPALIVE
from claude_proxy.config.deployments import Lane
from claude_proxy.config.models import ActiveConfig
from claude_proxy.providers.meter import Meter
from claude_proxy.proxy import plan as planning
from claude_proxy.proxy.lanes.attempt import READ_SECONDS
from claude_proxy.proxy.outcome import DONE, failed
from claude_proxy.proxy.rule_choice import RuleChoice
from claude_proxy.proxy.serving import Serving

pytestmark = pytest.mark.anyio

CLAUDE = {"model": "anthropic/claude-x"}
SONNET = {"model": "anthropic/claude-y"}
GLM = {"model": "anthropic/glm", "api_base": "https://glm.example"}
KIMI = {"model": "anthropic/kimi", "api_base": "https://kimi.example"}
CLOUD = {"model": "bedrock/anthropic.claude-z"}
MODELS = {"claude-x": CLAUDE, "claude-y": SONNET, "glm": GLM, "kimi": KIMI, "cloud": CLOUD}


def error(status, message="no luck", *, final=False):
    return failed(status, own_refusal(status, message), final=final)


class World:
    """A configuration, and lanes that come to what they were told. ``asked`` holds who was asked, in order.

    ``outcomes`` has for each model on the wire an outcome or several, of which the last one stays; the default is a success.
    """

    def __init__(self, router=None, *, models=MODELS, deployments=None, environ=None, limits=None, unpriced=(), **outcomes):
        config = {
            "model_list": [{"model_name": name, "litellm_params": params} for name, params in models.items()],
            "router_settings": router or {},
            "claude_proxy": limits or {},
        }
        deployments = {name: [params] for name, params in models.items()} | (deployments or {})
        self.config = ActiveConfig(config, environ or {}, lookup=lambda name: deployments.get(name, []))
        self.outcomes = {name: list(found) if isinstance(found, tuple) else [found] for name, found in outcomes.items()}
        self.asked, self.attempts, self.slept, self.planned = [], [], [], []

        def lacks_price(request, name):
            return request.user == "anna" and name in unpriced

        meter = Meter(len)
        rules = RuleChoice(self.config, meter, lacks_price=lacks_price)
        self.serving = Serving(
            dict.fromkeys(Lane, self), self.config, meter=meter, rules=rules, lacks_price=lacks_price, sleep=self.sleep
        )

    async def sleep(self, seconds):
        self.slept.append(seconds)

    async def come_to(self, name, client):
        self.asked.append(name)
        left = self.outcomes.get(name.replace("-", "_"), [DONE])
        outcome = left.pop(0) if len(left) > 1 else left[0]
        if outcome.done:
            await client.outlet.begin(200, [])
            await client.outlet.end(name.encode())
        return outcome

    async def attempt(self, attempt):
        self.attempts.append(attempt)
        return await self.come_to(attempt.deployment.model, attempt)

    async def serve(self, model="claude-x", *, enters_litellm=False, counts_tokens=False, **body):
        raw = json.dumps({"model": model, "messages": [{"role": "user", "content": "hi"}], **body}).encode()
        client = Received(raw, counts_tokens=counts_tokens, user="anna")

        async def call_litellm(name, *, planned):
            self.planned.append(planned)
            return await self.come_to(f"litellm:{name}", client)

        await self.serving.serve(client.request, client.outlet, client.journal, call_litellm, enters_litellm=enters_litellm)
        return client


def message(client):
    return json.loads(client.body)["error"]["message"]


# The order of fallbacks


async def test_the_first_that_answers():
    """The model that was asked for answers, and nobody else is asked."""
    world = World({"fallbacks": [{"claude-x": ["glm"]}]})
    client = await world.serve()
    assert (world.asked, client.begun[0], client.body) == (["claude-x"], 200, b"claude-x")


async def test_fallbacks_are_asked_in_order():
    """Each fallback of the model is asked in the order of config.yaml, until one answers."""
    world = World(
        {"fallbacks": [{"claude-x": ["glm", "claude-y", "kimi"]}], "num_retries": 0}, claude_x=error(429), glm=error(500)
    )
    client = await world.serve()
    assert (world.asked, client.body) == (["claude-x", "glm", "claude-y"], b"claude-y")
    assert client.journal.failovers == [
        "anthropic/claude-x: failed over to anthropic/glm (HTTP 429 rate_limit_error)",
        "anthropic/glm: failed over to anthropic/claude-y (HTTP 500 api_error)",
    ]


async def test_a_fallback_has_no_fallbacks_of_its_own():
    """The fallbacks are those of the model that the client asked for."""
    router = {"fallbacks": [{"claude-x": ["glm"]}, {"glm": ["kimi"]}], "num_retries": 0}
    world = World(router, claude_x=error(429), glm=error(500))
    await world.serve()
    assert world.asked == ["claude-x", "glm"]


async def test_a_fallback_that_lacks_its_key_is_left_out():
    """A fallback whose variable is not set is not asked."""
    models = MODELS | {"glm": GLM | {"api_key": "os.environ/GLM_KEY"}}
    deployments = {"glm": [GLM | {"api_key": ""}]}
    router = {"fallbacks": [{"claude-x": ["glm", "kimi"]}]}
    world = World(router, models=models, deployments=deployments, claude_x=error(429))
    await world.serve()
    assert world.asked[-1] == "kimi"
    assert "glm" not in world.asked


async def test_why_no_fallback_follows():
    """If no fallback of a failed model is ready, the record says so, with what each lacks; the client's error stays."""
    models = MODELS | {"glm": GLM | {"api_key": "os.environ/GLM_KEY"}}
    deployments = {"glm": [GLM | {"api_key": ""}]}
    refused = failed(429, own_refusal(429, "all are rate-limited"), of_pool=True)
    router = {"fallbacks": [{"claude-*": ["kimi"]}, {"claude-x": ["glm"]}]}
    client = await World(router, models=models, deployments=deployments, claude_x=refused).serve()
    why = "fallback glm is not ready: set GLM_KEY"
    assert message(client) == "all are rate-limited"
    assert client.journal.no_fallback == why
    assert [one.why for one in client.journal.attempts_made("")] == [f"no usable credential; {why}"]


@pytest.mark.parametrize(
    ("router", "first"),
    [
        ({}, error(429)),
        ({"fallbacks": [{"claude-x": ["glm", "kimi"]}]}, error(429)),
        ({"fallbacks": [{"claude-x": ["glm"]}]}, error(400, final=True)),
        ({"fallbacks": [{"claude-x": ["glm"]}]}, DONE),
    ],
    ids=["none-configured", "another-responds", "about-the-request", "a-success"],
)
async def test_no_fallback_was_missed(router, first):
    """The record speaks of no fallback where none is configured, one has responded, or none would have been tried."""
    models = MODELS | {"glm": GLM | {"api_key": "os.environ/GLM_KEY"}}
    client = await World(router, models=models, deployments={"glm": [GLM | {"api_key": ""}]}, claude_x=first).serve()
    assert client.journal.no_fallback == ""


@pytest.mark.parametrize("first", [error(400, final=True), error(413, final=True)], ids=["invalid", "too-large"])
async def test_an_error_about_the_request_ends_the_plan(first):
    """No fallback answers a request that the client can mend: it gets the error as it is."""
    world = World({"fallbacks": [{"claude-x": ["glm"]}]}, claude_x=first)
    client = await world.serve()
    assert (world.asked, client.begun[0], client.body) == (["claude-x"], first.status, first.refusal.body)


async def test_a_fallback_s_error_about_the_request_ends_the_plan():
    """So does such an error of a fallback, though it is not the one that the client gets."""
    router = {"fallbacks": [{"claude-x": ["glm", "kimi"]}], "num_retries": 0}
    world = World(router, claude_x=error(429, "Claude's"), glm=error(400, "too large", final=True))
    client = await world.serve()
    assert (world.asked, message(client)) == (["claude-x", "glm"], "Claude's")


async def test_whether_the_provider_works_on_the_request():
    """A request is at its provider until an attempt has failed, also while the proxy waits for the next attempt."""
    seen = []

    class Watched(World):
        async def attempt(self, attempt):
            attempt.journal.record_sent()
            return await super().attempt(attempt)

        async def sleep(self, seconds):
            seen.append(client.journal.at_provider)

        async def come_to(self, name, received):
            nonlocal client
            client = received
            return await super().come_to(name, received)

    client = None
    for outcomes, waits, at_provider in (((error(500), DONE), [False], True), ((error(500),), [False, False], False)):
        seen.clear()
        received = await Watched({"num_retries": 2}, glm=outcomes).serve("glm")
        assert (seen, received.journal.at_provider) == (waits, at_provider)


# Models without a price


async def test_a_model_without_a_price_is_refused():
    """Nobody is asked, not even a fallback; its tokens can be counted, which costs nothing."""
    world = World({"fallbacks": [{"glm": ["claude-x"]}]}, unpriced=("glm",))
    with pytest.raises(Refused, match="No price is known for the model glm") as refused:
        await world.serve("glm")
    assert (refused.value.status, world.asked) == (400, [])
    assert (await world.serve("glm", counts_tokens=True)).begun[0] == 200


async def test_a_fallback_without_a_price_is_left_out():
    """Such a fallback is not asked, whatever the error is."""
    router = {
        "fallbacks": [{"claude-x": ["glm", "kimi"]}],
        "content_policy_fallbacks": [{"claude-x": ["glm"]}],
        "context_window_fallbacks": [{"claude-x": ["glm", "claude-y"]}],
        "num_retries": 0,
    }
    world = World(router, unpriced=("glm",), claude_x=error(429))
    assert (await world.serve()).body == b"kimi"
    assert world.asked == ["claude-x", "kimi"]
    world = World(router, unpriced=("glm",), claude_x=error(400, "prompt is too long: 9 tokens > 8 maximum", final=True))
    assert (await world.serve()).body == b"claude-y"


async def test_a_rule_does_not_lead_to_a_model_without_a_price():
    """A rule whose model has no price does not apply; and a requested model without one is no fallback of a rule's model."""
    rules = {"rules": [{"model": "glm"}, {"model": "kimi"}]}
    assert (await World(limits=rules, unpriced=("glm",)).serve()).body == b"kimi"
    world = World({"num_retries": 0}, limits=rules, unpriced=("claude-x",), glm=error(500))
    assert (await world.serve()).begun[0] == 500
    assert world.asked == ["glm"]
    assert (await World(limits=rules, unpriced=("claude-x",)).serve()).body == b"glm"


# Whose error the client gets


@pytest.mark.parametrize(
    ("model", "fallbacks", "shown"),
    [
        ("claude-x", [], "claude-x"),
        ("claude-x", ["glm"], "claude-x"),
        ("claude-x", ["glm", "kimi"], "claude-x"),
        ("claude-x", ["cloud"], "claude-x"),
        ("claude-x", ["claude-y"], "claude-y"),
        ("claude-x", ["claude-y", "glm"], "claude-y"),
        ("glm", ["kimi"], "kimi"),
        ("glm", ["claude-x"], "claude-x"),
        ("glm", ["claude-x", "kimi"], "kimi"),
        ("glm", ["cloud"], "litellm:cloud"),
    ],
)
async def test_whose_error_the_client_gets(model, fallbacks, shown):
    """Of a request for Claude it is Claude's own last error, by which Claude Code knows what to do; else the last one."""
    everybody = ["claude-x", "claude-y", "glm", "kimi", "litellm:cloud"]
    outcomes = {name.replace("-", "_"): error(429, name) for name in everybody}
    client = await World({"fallbacks": [{model: fallbacks}], "num_retries": 0}, **outcomes).serve(model)
    assert (client.begun[0], message(client)) == (429, shown)


async def test_of_several_attempts_at_claude_the_last_is_shown():
    """What Claude said last is what holds now."""
    router = {"fallbacks": [{"claude-x": ["glm"]}], "num_retries": 1}
    world = World(router, claude_x=(error(529, "first"), error(500, "second")), glm=error(500))
    assert message(await world.serve()) == "second"


# Repetitions


@pytest.mark.parametrize("status", [500, 529, 429, 408])
async def test_claude_without_a_fallback_is_asked_once(status):
    """Claude Code repeats by itself, ten times: where no fallback could follow, the proxy does not repeat."""
    world = World({"num_retries": 5}, claude_x=error(status))
    await world.serve()
    assert (world.asked, world.slept) == (["claude-x"], [])


@pytest.mark.parametrize("model", ["claude-x", "glm"])
async def test_what_can_pass_is_repeated(model):
    """With a fallback, or at another provider, a model is asked again, after a pause that grows, before it is left."""
    router = {"fallbacks": [{model: ["kimi"]}], "num_retries": 2}
    world = World(router, claude_x=error(529), glm=error(529))
    client = await world.serve(model)
    assert world.asked == [model, model, model, "kimi"]
    assert [0.5 <= world.slept[0] <= 0.625, 1 <= world.slept[1] <= 1.25, len(world.slept)] == [True, True, 2]
    assert client.body == b"kimi"


async def test_a_repetition_that_answers_ends_it():
    """The first attempt that is answered is the last."""
    world = World({"num_retries": 5}, glm=(error(500), DONE))
    client = await world.serve("glm")
    assert (world.asked, client.body) == (["glm", "glm"], b"glm")
    assert client.journal.failovers == ["anthropic/glm: retried (HTTP 500 api_error)"]


async def test_the_pause_is_as_long_as_config_yaml_has_it():
    """``retry_after`` is the least pause."""
    world = World({"num_retries": 1, "retry_after": 4}, glm=error(500))
    await world.serve("glm")
    assert 4 <= world.slept[0] <= 5


@pytest.mark.parametrize(
    ("router", "status", "times"),
    [
        ({}, 500, 3),
        ({"num_retries": 0}, 500, 1),
        ({"num_retries": 1}, 429, 2),
        ({"num_retries": 5}, 404, 1),
        ({"num_retries": 5}, 400, 1),
        ({"num_retries": 0, "retry_policy": {"InternalServerErrorRetries": 2}}, 500, 3),
        ({"num_retries": 5, "retry_policy": {"RateLimitErrorRetries": 0}}, 429, 1),
        ({"num_retries": 0, "retry_policy": {"BadRequestErrorRetries": 1}}, 400, 2),
        ({"num_retries": 0, "model_group_retry_policy": {"glm": {"TimeoutErrorRetries": 1}}}, 504, 2),
        ({"num_retries": 0, "model_group_retry_policy": {"kimi": {"TimeoutErrorRetries": 1}}}, 504, 1),
    ],
)
async def test_a_policy_says_how_often(router, status, times):
    """How often a model is asked depends on the error, by the policies of config.yaml, as LiteLLM has them."""
    world = World(router, glm=error(status))
    await world.serve("glm")
    assert world.asked == ["glm"] * times


async def test_a_deployment_has_its_own_number_of_repetitions():
    """``num_retries`` of the deployment goes before that of the router."""
    world = World({"num_retries": 0}, deployments={"glm": [GLM | {"num_retries": 3}]}, glm=error(500))
    await world.serve("glm")
    assert len(world.asked) == 4


async def test_a_final_error_is_not_repeated():
    """What the client can mend is not asked again, whatever its status."""
    world = World({"num_retries": 5}, glm=error(500, final=True))
    await world.serve("glm")
    assert world.asked == ["glm"]


# Several deployments of one model

SPREAD = {"glm": [GLM | {"model": f"anthropic/glm{place}"} for place in range(3)]}


async def test_requests_are_spread():
    """Each of a model's deployments is the first one of some requests."""
    world = World(deployments=SPREAD)
    for _ in range(100):
        await world.serve("glm")
    assert {*world.asked} == {"glm0", "glm1", "glm2"}
    assert len(world.asked) == 100


async def test_a_deployment_without_weight_is_asked_last():
    """Requests go by the weights of config.yaml; the others stand in for a deployment that fails."""
    spread = [GLM | {"model": f"anthropic/glm{place}", "weight": weight} for place, weight in enumerate((0, 1))]
    world = World(deployments={"glm": spread})
    for _ in range(20):
        await world.serve("glm")
    assert {*world.asked} == {"glm1"}


async def test_the_next_deployment_is_asked_at_once():
    """A deployment that fails is followed by the next one, without a pause; each once before any is asked again."""
    world = World({"num_retries": 0}, deployments=SPREAD, glm0=error(500), glm1=error(404), glm2=error(429))
    await world.serve("glm")
    assert (sorted(world.asked), world.slept) == (["glm0", "glm1", "glm2"], [])


async def test_repetitions_go_round(monkeypatch):
    """Where more repetitions are allowed than there are deployments, they are asked again in the same order."""
    monkeypatch.setattr(planning, "choices", lambda places, _: [places[0]])
    outcomes = {f"glm{place}": error(500) for place in range(3)}
    world = World({"num_retries": 4}, deployments=SPREAD, **outcomes)
    await world.serve("glm")
    assert world.asked == ["glm0", "glm1", "glm2", "glm0", "glm1"]


async def test_several_deployments_of_claude_are_asked_each():
    """Claude without a fallback is not repeated, but each of its deployments is asked."""
    spread = {"claude-x": [CLAUDE, CLAUDE | {"model": "anthropic/claude-z"}]}
    world = World({"num_retries": 5}, deployments=spread, claude_x=error(500), claude_z=error(500))
    await world.serve()
    assert sorted(world.asked) == ["claude-x", "claude-z"]


# Rules for two kinds of errors

TOO_LONG = error(400, "prompt is too long: 210000 tokens > 200000 maximum", final=True)
FORBIDDEN = error(400, "Output blocked by content filtering policy", final=True)
RULES = {
    "fallbacks": [{"claude-x": ["glm"]}],
    "context_window_fallbacks": [{"claude-x": ["claude-y"]}],
    "content_policy_fallbacks": [{"claude-x": ["kimi"]}],
}


@pytest.mark.parametrize(
    ("first", "asked"),
    [(TOO_LONG, "claude-y"), (FORBIDDEN, "kimi"), (error(500), "glm"), (error(400, final=True), None)],
    ids=["context-window", "content-policy", "other", "final"],
)
async def test_an_error_has_fallbacks_of_its_own(first, asked):
    """A conversation that is too long, and one against a policy, go to the models that config.yaml names for that."""
    world = World(RULES | {"num_retries": 0}, claude_x=first)
    client = await world.serve()
    assert world.asked == ["claude-x", *([asked] if asked else [])]
    assert client.begun[0] == (200 if asked else 400)


@pytest.mark.parametrize("first", [TOO_LONG, FORBIDDEN], ids=["context-window", "content-policy"])
async def test_without_such_a_rule_the_client_gets_the_error(first):
    """Where config.yaml has no rule for it, such an error is about the request as any other."""
    world = World({"fallbacks": [{"claude-x": ["glm"]}]}, claude_x=first)
    client = await world.serve()
    assert (world.asked, client.begun[0]) == (["claude-x"], 400)


async def test_a_rule_for_another_model():
    """Where the rule names other models only, the error has no fallback, and not those for everything else."""
    router = RULES | {"context_window_fallbacks": [{"glm": ["claude-y"]}]}
    world = World(router, claude_x=failed(400, TOO_LONG.refusal))
    await world.serve()
    assert world.asked == ["claude-x"]


# What LiteLLM does


async def test_a_target_of_litellms_is_asked_through_it():
    """A deployment that no lane can ask is LiteLLM's, as a step of the plan: it has no fallbacks of its own for it."""
    world = World({"fallbacks": [{"claude-x": ["cloud", "glm"]}]}, claude_x=error(529), **{"litellm:cloud": error(500)})
    client = await world.serve()
    assert (world.asked[-2:], world.planned, client.body) == (["litellm:cloud", "glm"], [True], b"glm")


async def test_a_model_with_one_deployment_of_litellms_is_litellms():
    """LiteLLM chooses among a model's deployments when one of them is its own."""
    world = World(deployments={"glm": [GLM, CLOUD]})
    await world.serve("glm")
    assert world.asked == ["litellm:glm"]


async def test_litellm_does_everything_where_it_has_to():
    """With a virtual key, or with a setting that needs it, LiteLLM gets the request as a whole; the plan asks nobody."""
    world = World({"fallbacks": [{"claude-x": ["glm"]}]}, **{"litellm:claude_x": error(500)})
    client = await world.serve(enters_litellm=True)
    assert (world.asked, world.planned, client.begun[0]) == (["litellm:claude-x"], [False], 500)


# Models that are not served


@pytest.mark.parametrize("model", ["none", "claude-none"])
async def test_a_model_that_nobody_serves(model):
    """A model that config.yaml does not have is refused with 404, by its name, and nobody is asked."""
    with pytest.raises(Refused, match=f"{model} is not served") as refused:
        await World().serve(model)
    assert refused.value.status == 404


async def test_a_model_that_lacks_its_key():
    """A model whose variable is not set is refused with the variable's name, and nobody is asked."""
    models = MODELS | {"glm": GLM | {"api_key": "os.environ/GLM_KEY"}}
    world = World(models=models, deployments={"glm": [GLM | {"api_key": ""}]})
    with pytest.raises(Refused, match="set GLM_KEY on the proxy") as refused:
        await world.serve("glm")
    assert (refused.value.status, world.asked) == (400, [])


@pytest.mark.parametrize(
    ("model", "body", "named"),
    [
        ("claude-x", {}, "claude-x"),
        ("glm", {"tools": [{"type": "advisor", "model": "claude-y"}]}, "claude-y"),
        ("glm", {}, None),
    ],
)
async def test_a_model_that_the_user_may_not_have(model, body, named):
    """config.yaml's limits hold for the model that is asked for, and for those that the request names for Claude to use."""
    world = World(limits={"users": {"anna": {"models": ["glm"]}}})
    if named is None:
        assert (await world.serve(model, **body)).begun[0] == 200
        return
    with pytest.raises(Refused, match=named) as refused:
        await world.serve(model, **body)
    assert (refused.value.status, world.asked) == (400, [])


# What an attempt is given


@pytest.mark.parametrize(
    ("router", "params", "stream", "seconds"),
    [
        ({}, {}, False, READ_SECONDS),
        ({"timeout": 5}, {}, False, 5),
        ({"timeout": 5}, {"timeout": 7}, False, 7),
        ({"timeout": 5, "stream_timeout": 9}, {"timeout": 7}, False, 7),
        ({}, {}, True, READ_SECONDS),
        ({"timeout": 5}, {}, True, 5),
        ({"timeout": 5, "stream_timeout": 9}, {}, True, 9),
        ({"stream_timeout": 9}, {"stream_timeout": 3, "timeout": 7}, True, 3),
    ],
)
async def test_how_long_a_silence_may_last(router, params, stream, seconds):
    """The deployment's own timeout goes before the router's; a stream has one of its own where config.yaml says so."""
    world = World(router, deployments={"glm": [GLM | params]})
    await world.serve("glm", stream=stream)
    assert world.attempts[0].read_seconds == seconds


async def test_an_attempt_of_litellms_brings_its_parts():
    """An attempt that LiteLLM has begun hands its copy and its fields on to the lane, and is noted like any other."""
    world, client, capture = World(), Received(), object()
    (one,) = world.config.deployments("glm")
    await world.serving.attempt(client.request, one, client.outlet, client.journal, capture=capture, fields={"model": "x"})
    assert (world.attempts[0].capture, world.attempts[0].fields) == (capture, {"model": "x"})
    assert client.journal.served == "anthropic/glm"


async def test_what_other_processes_know_is_waited_for():
    """Before anybody is asked the pool learns what the other processes know."""
    world = World()

    async def ready():
        world.asked.append("ready")

    world.serving._ready = ready
    await world.serve()
    assert world.asked == ["ready", "claude-x"]


# Counting


async def test_claude_counts():
    """Claude's own number is the client's."""
    world = World()
    client = await world.serve(counts_tokens=True)
    assert (world.asked, client.body) == (["claude-x"], b"claude-x")


@pytest.mark.parametrize(
    ("model", "asked"), [("glm", []), ("cloud", []), ("claude-x", ["claude-x"])], ids=["format", "litellm", "claude-busy"]
)
async def test_else_the_count_is_an_estimate(model, asked):
    """Who cannot count, and Claude when it is busy, costs the client no billed request: it gets an estimate."""
    world = World({"fallbacks": [{model: ["kimi"]}], "num_retries": 5}, claude_x=error(429))
    client = await world.serve(model, counts_tokens=True)
    assert (world.asked, client.begun[0]) == (asked, 200)
    assert client.begun[1] == {"content-type": "application/json", "content-length": str(len(client.body))}
    assert json.loads(client.body) == {"input_tokens": len("hi") + 4}
    assert (client.journal.attempts, client.ended) == (1, True)


async def test_a_count_that_claude_refuses_is_refused():
    """An error about the request itself is the client's, and no estimate."""
    client = await World(claude_x=error(400, final=True)).serve(counts_tokens=True)
    assert client.begun[0] == 400


# A provider that is silent


class Silent(World):
    """Attempts that wait until the client has been sent so many keep-alives, or, with ``stays``, for ever."""

    def __init__(self, keepalives, *, stays=False, **more):
        super().__init__(**more)
        self.stays = stays
        self.capture = asyncio.Event()
        self.left = itertools.count(1 - keepalives)
        self.ended = False

    async def come_to(self, name, client):
        client.outlet._client = self.passing(client.outlet._client)
        try:
            await self.capture.wait()
            if self.stays:
                await asyncio.Event().wait()
        finally:
            self.ended = True
        return await super().come_to(name, client)

    def passing(self, send):
        async def sending(message):
            await send(message)
            if message.get("body") == KEEPALIVE and next(self.left) == 0:
                self.capture.set()

        return sending


@pytest.fixture
def no_patience(monkeypatch):
    monkeypatch.setattr("claude_proxy.proxy.response.EARLY_SECONDS", 0.0)
    monkeypatch.setattr("claude_proxy.proxy.response.KEEPALIVE_SECONDS", 0.0)


@pytest.mark.usefixtures("no_patience")
async def test_a_silent_provider_is_bridged():
    """While a provider says nothing for long the client's stream is kept alive, and then the response follows."""
    client = await Silent(2).serve("glm", stream=True)
    assert client.begun[0] == 200
    assert client.body.startswith(KEEPALIVE * 2)
    assert (client.body.replace(KEEPALIVE, b""), client.ended) == (b"glm", True)


@pytest.mark.usefixtures("no_patience")
async def test_a_fallback_can_follow_keep_alives():
    """A provider that failed after a long silence is followed by its fallback in the same stream."""
    world = Silent(1, router={"fallbacks": [{"glm": ["kimi"]}], "num_retries": 0}, glm=error(500))
    client = await world.serve("glm", stream=True)
    assert (world.asked, client.body.replace(KEEPALIVE, b"")) == (["glm", "kimi"], b"kimi")


@pytest.mark.usefixtures("no_patience")
async def test_a_failure_after_keep_alives_is_an_event():
    """When everybody has failed after the status has left, the error is the stream's last event."""
    world = Silent(1, router={"num_retries": 0}, glm=error(500))
    client = await world.serve("glm", stream=True)
    assert client.body.replace(KEEPALIVE, b"").startswith(b"event: error\n")
    assert client.ended


@pytest.mark.usefixtures("no_patience")
@pytest.mark.parametrize(("model", "enters"), [("cloud", False), ("claude-x", True)], ids=["planned", "alone"])
async def test_litellm_is_bridged_too(model, enters):
    """So it is while LiteLLM's app says nothing, once another provider than Claude is asked."""
    world = Silent(1)
    inner = world.come_to

    async def come_to(name, client):
        client.journal.begin(planning.Provider.OPENAI, "openai/gpt")
        return await inner(name, client)

    world.come_to = come_to
    client = await world.serve(model, stream=True, enters_litellm=enters)
    assert client.body.startswith(KEEPALIVE)


@pytest.mark.usefixtures("no_patience")
async def test_claude_speaks_for_itself():
    """Claude sends pings of its own, and gets no keep-alive beside them."""
    client = await World().serve(stream=True)
    assert client.body == b"claude-x"


@pytest.mark.usefixtures("no_patience")
async def test_a_cancelled_request_ends_its_attempt():
    """When the request is cancelled, for a client that has left, the attempt behind the keep-alives ends before it does."""
    world = Silent(2, stays=True)
    serving = asyncio.ensure_future(world.serve("glm", stream=True))
    await world.capture.wait()
    serving.cancel()
    with pytest.raises(asyncio.CancelledError):
        await serving
    assert world.ended


async def test_what_an_attempt_raises_reaches_the_gateway():
    """A mistake of the proxy's own is not taken for an outcome."""
    world = World()

    async def come_to(*_):
        raise LookupError("broken")

    world.come_to = come_to
    with pytest.raises(LookupError):
        await world.serve("glm", stream=True)


# Auto mode


async def test_who_cannot_check_calls_says_so():
    """A request for Claude's safeguards gets the 400 that makes the client check by itself, and nobody else is asked."""
    world = World()
    client = await world.serve("glm", safeguards={"made": "up"})
    assert (world.asked, client.begun[0]) == ([], 400)
    assert message(client).startswith("safeguards: ")
    world = World({"fallbacks": [{"claude-x": ["glm"]}], "num_retries": 0}, claude_x=error(429))
    client = await world.serve(safeguards={"made": "up"})
    assert (world.asked, client.begun[0]) == (["claude-x"], 400)


async def test_claude_checks_calls():
    """It gets such a request as it came."""
    world = World()
    assert (await world.serve(safeguards={})).body == b"claude-x"
