"""proxy/account_objects.py: whose objects a caller finds, also those that another process has just made."""

import pytest

from claude_proxy.access.routes import Caller, Role
from claude_proxy.anthropic.errors import Refused
from claude_proxy.config.models import ActiveConfig
from claude_proxy.config.settings import Settings
from claude_proxy.credentials.credential import Credential
from claude_proxy.credentials.made_objects import MadeObject, MadeObjects, ObjectKind, fingerprint
from claude_proxy.credentials.order import ANONYMOUS
from claude_proxy.credentials.pool import Affinity, Pool
from claude_proxy.proxy.account_objects import AccountObjects
from claude_proxy.proxy.api_keys import ApiKeys

pytestmark = pytest.mark.anyio

NOW = 1_800_000_000.0
ONE, TWO = "sk-ant-api03-made-up-one", "sk-ant-api03-made-up-two"


def made(identifier, user="anna", secret=ONE, at=NOW):
    return MadeObject(ObjectKind.FILE, identifier, user, fingerprint(Credential.of("x", secret)), at)


class Process:
    """A process, and what others have made: an exchange with the store brings it."""

    def __init__(self, *elsewhere):
        self.elsewhere, self.exchanges = elsewhere, 0
        self.made = MadeObjects(lambda: NOW)
        settings = Settings.parse({"CLAUDE_API_KEYS": f"one={ONE},two={TWO}"})
        pool = Pool(settings.credentials, affinity=Affinity.SESSION, quarantine=900, clock=lambda: NOW)
        keys = ApiKeys(settings, ActiveConfig({}, {}), pool, lambda: NOW)
        self.objects = AccountObjects(self.made, keys, self.confirm)

    async def confirm(self):
        self.exchanges += 1
        self.made.merge([one.row() for one in self.elsewhere])
        return True


async def test_what_another_process_has_made():
    """An object that is not known here is looked for with one exchange; a known one needs none."""
    process = Process(made("file_a"))
    for _ in range(2):
        assert (await process.objects.find(ObjectKind.FILE, "file_a", "Anna")).id == "file_a"
    assert process.exchanges == 1


@pytest.mark.parametrize("identifier", ["file_a", "file_b", "x" * 5000, 'a"\n'])
async def test_what_is_not_the_users(identifier):
    """Another user's object and an unknown one are the same 404, of bounded length."""
    process = Process(made("file_a"))
    with pytest.raises(Refused) as refused:
        await process.objects.find(ObjectKind.FILE, identifier, "ben")
    assert refused.value.status == 404
    assert str(refused.value).isprintable()
    assert len(str(refused.value)) < 300


async def test_the_master_key():
    """The master key finds and lists everybody's objects; a user their own."""
    process = Process(made("file_a"), made("file_b", "ben", at=NOW - 1))
    assert await process.objects.find(ObjectKind.FILE, "file_a", "admin", is_admin=True)
    for caller, ids in (
        (Caller(Role.ADMIN, None, "admin"), ["file_a", "file_b"]),
        (Caller(Role.USER, None, "Ben"), ["file_b"]),
    ):
        assert [one.id for one in await process.objects.of_caller(ObjectKind.FILE, caller)] == ids


async def test_every_process_knows_before_the_client_does():
    """An object is recorded, and so is its deletion, with an exchange; an id that exists is not recorded again."""
    process = Process()
    assert await process.objects.record(made("file_a"))
    assert process.exchanges == 2
    assert not await process.objects.record(made("file_a", "ben"))
    await process.objects.discard(made("file_a"))
    with pytest.raises(Refused):
        await process.objects.find(ObjectKind.FILE, "file_a", "anna")


async def test_an_id_that_another_process_has_recorded():
    """An id that Anthropic returns twice stays its first maker's, also if that was in another process."""
    process = Process(made("file_a"))
    assert not await process.objects.record(made("file_a", "ben"))
    assert (await process.objects.find(ObjectKind.FILE, "file_a", "anna")).user == "anna"


async def test_the_key_of_files():
    """Files of one key are used with it; files of two keys are refused, and so is a file of somebody else beside one's own."""
    process = Process(made("file_a"), made("file_b"), made("file_c", secret=TWO), made("file_d", "ben"))

    async def key(*files):
        return await process.objects.key_of_files(frozenset(files), "anna", ANONYMOUS)

    assert await key() is None
    assert (await key("file_a", "file_b")).secret.reveal() == ONE
    with pytest.raises(Refused, match="one API key") as refused:
        await key("file_a", "file_c")
    assert refused.value.status == 400
    with pytest.raises(Refused) as refused:
        await key("file_a", "file_d")
    assert refused.value.status == 404
