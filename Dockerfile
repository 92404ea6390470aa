# Two stages: pip runs in the first one only. No secret is needed for a build, and .dockerignore lets none in.

FROM python:3.13-slim-bookworm AS packages
WORKDIR /build
COPY requirements.lock .
# Bytecode is compiled on all processors, which pip does on one.
# hadolint ignore=DL3042
RUN --mount=type=cache,target=/root/.cache/pip \
    python -m venv --without-pip /venv \
    && pip --python /venv/bin/python install --require-hashes --no-deps --no-compile --only-binary :all: \
    --report report.json -r requirements.lock \
    && python -m compileall -q -j 0 /venv

# The list of all that the image is made of. The image gets it, and none of the tools. It starts from the same base.
FROM packages AS sbom
COPY requirements-tools.lock .
# hadolint ignore=DL3042
RUN --mount=type=cache,target=/root/.cache/pip \
    python -m venv --without-pip /tools \
    && pip --python /tools/bin/python install --require-hashes --no-deps --no-compile --only-binary :all: \
    -r requirements-tools.lock
COPY deploy/sbom.py .
RUN /tools/bin/python sbom.py --python /venv/bin/python --report report.json --root / > sbom.json

# Only for the profile db: Prisma's client for Python, generated for LiteLLM's tables, the engine that it asks, and Prisma's
# command line. Prisma downloads its engines.
FROM python:3.13-slim-bookworm AS database
# hadolint ignore=DL3008
RUN apt-get update && apt-get install -y --no-install-recommends nodejs npm openssl && rm -rf /var/lib/apt/lists/* \
    && useradd --uid 10001 --user-group --no-create-home --home-dir /client --shell /usr/sbin/nologin claude-proxy \
    && install --directory --owner claude-proxy --group claude-proxy /client /database
COPY --from=packages /venv /venv
ENV PATH=/client/bin:/venv/bin:$PATH PYTHONPATH=/client:/app PYTHONDONTWRITEBYTECODE=1 HOME=/client \
    PRISMA_BINARY_CACHE_DIR=/client/engines CHECKPOINT_DISABLE=1
WORKDIR /app
COPY requirements-database.lock .
# hadolint ignore=DL3042
RUN pip --python /venv/bin/python install --require-hashes --no-deps --target /client -r requirements-database.lock
COPY claude_proxy claude_proxy
# hadolint ignore=DL4006
RUN python -m claude_proxy.litellm.database > /client/schema.prisma \
    && prisma generate --schema /client/schema.prisma \
    # The proxy reads the client from a read-only volume, in each worker anew: three seconds and 240 MB less with bytecode. It
    # counts by what a file holds, for copies are of another time.
    && python -m compileall -q --invalidation-mode checked-hash /client/prisma \
    && cp "$(find /client/engines -name 'query-engine-*' -type f | head -n 1)" /client/query-engine
USER 10001:10001
CMD ["sh", "-c", "python -m claude_proxy.litellm.database update && cp -rf /client/prisma /client/nodeenv* /client/tomlkit \
    /client/query-engine /database/ && touch /tmp/ready && exec sleep infinity"]

FROM python:3.13-slim-bookworm
# A number of its own, so that it is never a user of the host. /data belongs to it, and so will a new volume there.
RUN useradd --uid 10001 --user-group --no-create-home --home-dir /data --shell /usr/sbin/nologin claude-proxy \
    && install --directory --owner claude-proxy --group claude-proxy --mode 700 /data \
    && install --directory --owner claude-proxy --group claude-proxy /database \
    && install --directory /project \
    # Nothing in it needs to become another user, and nothing is installed any more.
    && find / -xdev -type f -perm /6000 -exec chmod a-s {} + \
    && python -m pip uninstall --quiet --yes --root-user-action ignore pip
# The standard library comes without bytecode, and the read-only file system lets none be written later.
RUN python -m compileall -q -j 0 -x 'test|lib2to3|idlelib' /usr/local/lib/python3.13
COPY --from=packages /venv /venv
ENV PATH=/venv/bin:$PATH PYTHONDONTWRITEBYTECODE=1 PYTHONUNBUFFERED=1 HOME=/data HOST=0.0.0.0 PORT=4000
WORKDIR /app
COPY config.yaml.example .env.example request_transformer.py custom_auth.py ./
COPY claude_proxy claude_proxy
COPY --from=sbom /build/sbom.json .
# The project folder on the host is mounted at /project for its .env and config.yaml alone. LiteLLM takes the entry files from
# the folder in which it finds config.yaml: through these links that is this one, whose code is of one piece.
RUN ln -s /project/.env /project/config.yaml . \
    && python -m compileall -q . \
    && printf '#!/bin/sh\ncd /app && exec python -m claude_proxy --data /data "$@"\n' > /usr/local/bin/claude-proxy \
    && chmod 755 /usr/local/bin/claude-proxy
USER 10001:10001
VOLUME /data
ENTRYPOINT ["claude-proxy"]
CMD ["serve"]
# Not urllib: it would ask through HTTP_PROXY.
HEALTHCHECK --interval=10s --timeout=5s --start-period=60s --retries=3 CMD ["python", "-I", "-c", "import http.client, os; \
    connection = http.client.HTTPConnection('127.0.0.1', int(os.environ['PORT']), timeout=4); \
    connection.request('GET', '/health/liveliness'); \
    raise SystemExit(connection.getresponse().status != 200)"]
