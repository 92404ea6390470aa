"""signin/tokens.py: access tokens, and everything that is none."""

import base64
import json

import jwt
import pytest
from hypothesis import given
from hypothesis import strategies as st

from claude_proxy.config.sign_in import SignIn
from claude_proxy.config.users import SignedIn, UserBook, parse_entry
from claude_proxy.secret import Secret
from claude_proxy.signin import tokens as module
from claude_proxy.signin.identity import Identity
from claude_proxy.signin.keys import LEEWAY_SECONDS, KeyRing
from claude_proxy.signin.tokens import ALGORITHM, NAME, AccessTokens

NOW = 1_800_000_000.0
USER = parse_entry("anna=sk-made-up-token-of-anna")
ANNA = Identity("anna", ("team-a", "größe"), token_digest=USER.digest)
OIDC = Identity("ben@example.org", ("team-b",), "ben@example.org")


class World:
    """One process, with everything that may change around it."""

    def __init__(self):
        self.ring = KeyRing.new(NOW)
        self.now = NOW
        self.ended = set()
        self.config = SignIn(provider=True)
        self.users = UserBook((USER,))
        self.tokens = AccessTokens(
            lambda: self.ring, self.ended.__contains__, self.users, lambda: self.config, lambda: self.now
        )

    def issue(self, identity=ANNA, session="s1"):
        return self.tokens.issue(self.ring, identity, session)[0]

    def find(self, token):
        return self.tokens.find(token)


@pytest.fixture
def world():
    return World()


@pytest.mark.parametrize("identity", [ANNA, OIDC])
def test_a_token_names_its_user(world, identity):
    """A token says who has signed in, with which groups, and in which sign-in; also when it is asked again."""
    token = world.issue(identity)
    for _ in range(2):
        found = world.find(token)
        assert (found.name, found.groups, found.session) == (identity.name, identity.groups, "s1")


def test_the_claims(world):
    """A token has the documented claims, each another id, and neither the personal token's hash nor an address."""
    text = world.issue().reveal()
    claims = jwt.decode(text, options={"verify_signature": False})
    assert {name: claims[name] for name in ("iss", "aud", "sub", "groups", "iat", "exp", "sid")} == {
        "iss": NAME, "aud": NAME, "sub": "anna", "groups": list(ANNA.groups), "iat": NOW, "exp": NOW + 3600, "sid": "s1",
    }  # fmt: skip
    assert jwt.get_unverified_header(text) == {"alg": "HS256", "typ": "JWT", "kid": world.ring.keys[0].kid}
    assert USER.digest not in json.dumps(claims)
    assert claims["jti"] != jwt.decode(world.issue().reveal(), options={"verify_signature": False})["jti"]


def test_the_tag_of_projects(world):
    """A token names the tag of projects in the claim that Claude Code reads, if there is one, and is as valid as without."""
    claims = [jwt.decode(world.issue().reveal(), options={"verify_signature": False})]
    world.config = SignIn(project_tag="project")
    token = world.issue()
    claims.append(jwt.decode(token.reveal(), options={"verify_signature": False}))
    assert [one.get("billing_group_tag") for one in claims] == [None, "project"]
    assert world.find(token).name == "anna"


@pytest.mark.parametrize(
    ("seconds", "valid"),
    [
        (0, True), (3600, True), (3600 + LEEWAY_SECONDS - 1, True), (3600 + LEEWAY_SECONDS, False), (1e9, False),
        # A clock that was set back a little, and one that was set back by more than clocks differ.
        (-LEEWAY_SECONDS, True), (-LEEWAY_SECONDS - 1, False),
    ],
)  # fmt: skip
def test_a_token_expires(world, seconds, valid):
    """A token is valid for its lifetime, with a leeway for clocks that differ, whether or not it is known already."""
    token, known = world.issue(), world.issue()
    assert world.find(known)
    world.now += seconds
    assert bool(world.find(token)) is bool(world.find(known)) is valid


def test_the_lifetime_is_configured(world):
    """A changed lifetime applies to the next token."""
    world.config = SignIn(access_seconds=300)
    assert world.tokens.issue(world.ring, ANNA, "s1")[1] == 300


def test_an_ended_sign_in(world):
    """Its tokens are invalid immediately."""
    token = world.issue()
    assert world.find(token)
    world.ended.add("s1")
    assert world.find(token) is None
    assert world.tokens.session_of(token) == "s1"


def test_a_removed_user(world):
    """Without the personal token, or with another one of the same name, the tokens of its sign-ins are invalid."""
    token = world.issue()
    world.users.fixed = (parse_entry("anna=sk-made-up-other-token-of-anna"),)
    assert world.find(token) is None
    world.users.fixed = (USER,)
    assert world.find(token)


def test_a_removed_provider(world):
    """Without the identity provider its sign-ins are invalid, and without the section's consent all are."""
    token, personal = world.issue(OIDC), world.issue()
    world.config = SignIn()
    assert world.find(token) is None
    assert world.find(personal)
    world.config = SignIn(enabled=False, provider=True)
    assert world.find(token) is world.find(personal) is None


def test_a_rotation(world):
    """A token of a replaced key stays valid; that of a discarded key is invalid, also where it was checked before."""
    token = world.issue()
    assert world.find(token)
    world.ring = world.ring.rotated(NOW)
    assert world.find(token)
    world.ring = world.ring.rotated(NOW, discard=True)
    assert world.find(token) is None
    world.ring = None
    assert world.find(token) is None


def test_a_copied_key(world):
    """A key that was replaced has signed no token later than that, and none that lives longer than tokens may."""
    first = world.ring.keys[0]
    world.ring = world.ring.rotated(NOW)
    later = NOW + 3600
    world.now = later
    forged = {"iat": later, "exp": later + 3600}
    assert world.find(signed(forged, first.secret, {"kid": first.kid}, world=world)) is None
    assert world.find(signed({"exp": NOW + 10**9}, first.secret, {"kid": first.kid}, world=world)) is None
    assert world.find(signed({"exp": later + 3600}, first.secret, {"kid": first.kid}, world=world))


def signed(claims=None, key=None, headers=None, algorithm=ALGORITHM, world=None):
    """A token with some parts changed, signed with the right key unless another one is given."""
    whole = {
        "iss": NAME, "aud": NAME, "sub": "anna", "groups": [], "iat": NOW, "exp": NOW + 3600, "jti": "j",
        "sid": "s1", "tok": "",
    } | (claims or {})  # fmt: skip
    whole = {name: value for name, value in whole.items() if value is not None}
    key = world.ring.keys[0].secret if key is None else key
    return Secret(jwt.encode(whole, key, algorithm=algorithm, headers={"kid": world.ring.keys[0].kid} | (headers or {})))


@pytest.mark.parametrize(
    "changed",
    [
        {"claims": {"aud": "another"}},
        {"claims": {"aud": None}},
        {"claims": {"iss": "another"}},
        {"claims": {"exp": None}},
        {"claims": {"exp": "never"}},
        {"claims": {"exp": NOW + 86_401}},
        {"claims": {"sub": None}},
        {"claims": {"sid": None}},
        {"claims": {"tok": None}},
        {"claims": {"groups": 7}},
        {"key": b"another key of thirty-two bytes!"},
        {"headers": {"kid": "0000000000000000"}},
        {"headers": {"kid": "../../etc/passwd"}},
        {"algorithm": "HS512"},
        {"algorithm": "HS384"},
    ],
)
@pytest.mark.filterwarnings("ignore::jwt.warnings.InsecureKeyLengthWarning")
def test_a_token_that_is_not_ours(world, changed):
    """Another key, algorithm, audience or issuer, or a missing claim, makes a text that is no token."""
    assert world.find(signed(world=world))
    assert world.find(signed(world=world, **changed)) is None
    assert world.tokens.session_of(signed(world=world, **changed)) is None


def part(content):
    return base64.urlsafe_b64encode(json.dumps(content).encode()).decode().rstrip("=")


@pytest.mark.parametrize("algorithm", ["none", "None", "nOnE", "", "RS256", "EdDSA", None, 7])
def test_none_is_refused(world, algorithm):
    """A token without a signature, or with the name of another algorithm, is refused, with and without the old signature."""
    _, claims, signature = world.issue().reveal().split(".")
    head = part({"alg": algorithm, "typ": "JWT", "kid": world.ring.keys[0].kid})
    for end in ("", signature):
        assert world.find(Secret(f"{head}.{claims}.{end}")) is None


def test_every_changed_character_is_noticed(world):
    """No character of a token can be replaced, but for the last, whose bits beyond the signature mean nothing."""
    text = world.issue().reveal()
    for place in range(len(text) - 1):
        other = "A" if text[place] != "A" else "B"
        assert world.find(Secret(f"{text[:place]}{other}{text[place + 1 :]}")) is None


@pytest.mark.parametrize(
    "text",
    ["", "eyJ", "eyJ..", "eyJ.eyJ.x", "eyJhbGciOiJIUzI1NiJ9.e30.", "\ud83d.eyJ.x", f"eyJ{'[' * 3000}.e.x", "sk-ant-x"],
)
def test_what_is_no_token(world, text):
    """Any other text is no token, and no error."""
    assert world.find(Secret(text)) is None


@given(st.text(), st.text(), st.text())
def test_any_text(head, body, signature):
    """Whatever is sent as a token, it is none."""
    assert WORLD.find(Secret(f"eyJ{head}.{body}.{signature}")) is None


@given(
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.text(), lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner)
    )
)
def test_any_head(head):
    """Whatever the head of a token holds, it is none."""
    assert WORLD.find(Secret(f"{part(head)}.{part({})}.AAAA")) is None


WORLD = World()


def test_memory_is_bounded(world, monkeypatch):
    """However many tokens are checked, a bounded number is kept."""
    monkeypatch.setattr(module, "MAX_CACHED", 4)
    issued = [world.issue() for _ in range(10)]
    assert all(world.find(token) for token in issued + issued)
    assert len(world.tokens._cached) <= 4


def test_a_book_of_users_knows_them(world):
    """The users' book finds the first valid token of a request; without sign-in it knows none."""
    token = world.issue()
    assert world.users.signed_in([token]) is None
    assert not world.users.stands(SignedIn("anna", (), "s1", ""))
    world.users.sign_ins = world.tokens
    found, sent = world.users.signed_in([Secret("x"), token])
    assert (found.name, sent) == ("anna", token)
    assert world.users.stands(found)
