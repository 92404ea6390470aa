"""The profile ``db`` on a real engine, with two workers and the profile ``tls``: its keys, and what outlives a restart."""

import json
import shutil
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx
import pytest
from compose import QUESTION, Compose, engine_environment, have_image
from database import QUERY_ENGINE, client, migrations

pytestmark = pytest.mark.timeout(900)  # the first build downloads every package

# In the place of the service that downloads Prisma's engines: the same client, and the engine of the tests without Docker.
DATABASE = """
services:
  proxy:
    environment: {NUM_WORKERS: "2"}
  database:
    build: !reset null
    image: postgres:17-alpine
    user: "10001:10001"
    entrypoint: [sh, -ec]
    command:
      - ask() { psql -q -v ON_ERROR_STOP=1 -h /run/postgresql -U litellm litellm "$$@"; };
        ask -c 'TABLE "LiteLLM_VerificationToken"' || ask < /stand-in/tables.sql;
        cp -rf /stand-in/client/. /database/ && touch /tmp/ready && exec sleep infinity
    volumes: ["./stand-in:/stand-in:ro"]
"""


@pytest.fixture(scope="module")
def with_database(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Compose]:
    """A running proxy of two workers, with its database and Caddy, and without an ``.env``."""
    engine = engine_environment()
    for image in ("postgres:17-alpine", "caddy:2-alpine"):
        have_image(engine, image)
    compose = Compose(tmp_path_factory.mktemp("db"), engine, profiles=("db", "tls"))
    compose.write_config()
    (compose.folder / "docker-compose.override.yml").write_text(DATABASE, encoding="utf-8")
    stand_in(compose.folder / "stand-in")
    try:
        compose("build", "proxy")
        compile_client(compose)
        yield compose.up()
    finally:
        compose.profiles = ("db", "tls")
        compose.down()


def stand_in(folder: Path) -> None:
    """Lay out what the service ``database`` gives the proxy: Prisma's client, and an engine under the name it looks for."""
    made = folder / "client"
    made.mkdir(parents=True)
    for part in ("prisma", "tomlkit"):
        shutil.copytree(client() / part, made / part)
    shutil.copytree(
        QUERY_ENGINE, made / "engine", ignore=lambda _, names: {name for name in names if name.startswith(".client")}
    )
    node = shutil.which("node")
    assert node
    shutil.copy(Path(node).resolve(), made / "node")
    (made / "query-engine").write_text('#!/bin/sh\nexec /database/node /database/engine/engine.mjs "$@"\n', encoding="utf-8")
    (made / "query-engine").chmod(0o755)
    tables = "\n".join(migration.read_text(encoding="utf-8") for migration in migrations())
    (folder / "tables.sql").write_text(tables, encoding="utf-8")


def compile_client(compose: Compose) -> None:
    """Give the client bytecode for the image's Python, as the service that is replaced does."""
    volume, compiled = f"{compose.folder}/stand-in/client/prisma:/prisma", ("--invalidation-mode", "checked-hash", "/prisma")
    run = ("run", "--rm", "--user", "0", "--entrypoint", "python", "--volume", volume)
    compose.docker(*run, compose.image, "-m", "compileall", "-q", *compiled)


@pytest.fixture(scope="module")
def master(with_database: Compose) -> str:
    """The generated master key."""
    lines = with_database.inside("cat /data/.env").stdout.splitlines()
    return next(line.partition("=")[2] for line in lines if line.startswith("LITELLM_MASTER_KEY="))


@pytest.fixture(scope="module")
def key(with_database: Compose, master: str) -> str:
    """A virtual key for the models ``demo`` and ``added``."""
    made = httpx.post(
        f"{with_database.base_url}/key/generate",
        json={"models": ["demo", "added"]},
        headers={"x-litellm-api-key": master},
        trust_env=False,
        timeout=30,
    )
    return str(made.json()["key"])


def test_the_profile_db_has_keys_of_its_own(with_database: Compose, key: str, master: str) -> None:
    """Keys are made and tokens go on, in a PostgreSQL that no network reaches; no secret is logged."""
    compose = with_database
    assert [compose.ask(key, model).status_code for model in ("demo", "claude-demo")] == [200, 400]
    assert compose.ask(compose.token).status_code == 200
    postgres = json.loads(compose.docker("inspect", compose("ps", "--quiet", "postgres").stdout.strip()).stdout)[0]
    assert list(postgres["NetworkSettings"]["Networks"]) == ["none"]
    assert [secret for secret in (master, key, compose.token) if secret in compose.logs()] == []


def test_every_worker_knows_the_keys_behind_tls(with_database: Compose, key: str) -> None:
    """Through Caddy, so many requests at a time that each worker has some, each gets what its key allows."""
    compose = with_database
    assert compose.inside("grep -lz [s]pawn_main /proc/[0-9]*/cmdline | wc -l").stdout.strip() == "2"
    models = ["demo", "claude-demo"] * 12
    with compose.encrypted(key) as client, ThreadPoolExecutor(len(models)) as threads:
        answers = [*threads.map(lambda model: client.post("/v1/messages", json=QUESTION | {"model": model}), models)]
    assert [answer.status_code for answer in answers] == [200, 400] * 12


def test_a_restart_keeps_keys_and_takes_up_an_edited_config(with_database: Compose, key: str) -> None:
    """`docker compose restart` is enough after a change of ``config.yaml``; keys are kept."""
    compose = with_database
    assert compose.ask(compose.token, "added").status_code != 200
    compose.write_config(added="http://demo.invalid")
    compose("restart")
    compose.up()
    for token in (compose.token, key):
        answer = compose.ask(token, "added")
        assert (answer.status_code, answer.json()["model"]) == (200, "added")


def test_without_the_profile_tokens_go_on(with_database: Compose, key: str) -> None:
    """Without the profile there are no keys, and the generated token is the one that it was."""
    compose = with_database
    compose("stop", "postgres", "database", "caddy")
    compose.profiles = ()
    compose("restart", "proxy")
    compose.up()
    assert (compose.ask(key).status_code, compose.ask(compose.token).status_code) == (401, 200)
