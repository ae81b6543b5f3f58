# wsbridge as an image: one virtualenv on a slim Python, without root, with a read-only file system.
#
#   docker build -t websocket-service:latest .
#
# Run `make client` before, which needs Node.js: the image then has a minified /client.js. Otherwise it serves the
# readable sources.
#
# To try it out on http://127.0.0.1:8004/, without tokens and with all routes open to everybody:
#   docker run --rm --read-only --cap-drop ALL -p 127.0.0.1:8004:8004 -e WSBRIDGE_AUTH=none -e WSBRIDGE_DEMO=true \
#     websocket-service:latest
#
# With tokens, for a sidecar and operators:
#   docker run --rm --read-only --cap-drop ALL -p 127.0.0.1:8004:8004 -e WSBRIDGE_JWT_SECRET="$JWT_SECRET" \
#     -e APP_API_TOKEN="$APP_API_TOKEN" -e WSBRIDGE_ADMIN_TOKEN="$ADMIN_TOKEN" websocket-service:latest
#
# The bridge listens on all of the container's addresses, so it refuses to start unless WSBRIDGE_AUTH=none or a key is
# set.
#
# /events and /dapr answer 403 without APP_API_TOKEN. So do /stats and /users without WSBRIDGE_ADMIN_TOKEN and /metrics
# without WSBRIDGE_METRICS_TOKEN, unless they are called on WSBRIDGE_INTERNAL_PORT. Do not publish that port.
#
# A command in the container has the container's tokens:
#   docker exec CONTAINER wsbridge publish --user alice task.created title='Buy milk'

# To build the same base again later, name it by digest as well, as the releases do:
#   docker build --build-arg PYTHON=python:3.13-slim-trixie@sha256:... -t websocket-service:latest .
# `docker buildx imagetools inspect python:3.13-slim-trixie` prints the current digest.
ARG PYTHON=python:3.13-slim-trixie
FROM ${PYTHON} AS build

ENV PIP_DISABLE_PIP_VERSION_CHECK=1 \
    PIP_NO_CACHE_DIR=1 \
    PIP_ROOT_USER_ACTION=ignore

# The build stage's pip installs into the virtualenv, so the image contains no installer.
RUN python -m venv --without-pip /opt/venv

# Wheels only: an sdist would run its own code here, and there is no compiler. Its own layer, because it changes rarely.
# With traces (docs/traces.md) the image has fourteen more packages: docker build --build-arg LOCK=traces.txt …
ARG LOCK=requirements.txt
COPY requirements.txt requirements/build.txt requirements/traces.txt /src/
RUN pip install --only-binary :all: --require-hashes -r /src/build.txt \
    && pip --python /opt/venv install --no-compile --only-binary :all: --require-hashes -r "/src/${LOCK}"

WORKDIR /src
COPY pyproject.toml README.md LICENSE ./
COPY wsbridge ./wsbridge
# The target of the link wsbridge/web/static/client.
COPY client/src ./client/src
# Files of `wsbridge chain`, which the wheel contains.
COPY examples/tasks-backend/tasks_backend.py ./examples/tasks-backend/
COPY k8s/dapr ./k8s/dapr
# The file system is read-only later, so bytecode is compiled now. Unchecked, because timestamps may change in the
# image.
RUN pip wheel --no-index --no-deps --no-build-isolation --wheel-dir /wheels . \
    && pip --python /opt/venv install --no-index --no-compile --no-deps /wheels/*.whl \
    && python -m compileall -q -j 0 --invalidation-mode unchecked-hash /opt/venv/lib


FROM ${PYTHON}

ARG VERSION=dev
ARG REVISION=unknown
LABEL org.opencontainers.image.title="wsbridge" \
      org.opencontainers.image.description="The last mile from Kafka and Dapr to the browser" \
      org.opencontainers.image.licenses="MIT" \
      org.opencontainers.image.version="${VERSION}" \
      org.opencontainers.image.revision="${REVISION}"

COPY --from=build /opt/venv /opt/venv
ENV PATH="/opt/venv/bin:${PATH}"

# The base image has no bytecode of the standard library. A first run as root writes it for the modules in use, and
# fails the build if anything is missing.
RUN wsbridge --help > /dev/null && python -c "import wsbridge.server, wsbridge.cli.commands, wsbridge.cli.http"

ENV PYTHONDONTWRITEBYTECODE=1 \
    PYTHONUNBUFFERED=1 \
    WSBRIDGE_HOST=0.0.0.0

# A number, because Kubernetes cannot check whether a name is root (runAsNonRoot).
USER 10001:10001
EXPOSE 8004
STOPSIGNAL SIGTERM
HEALTHCHECK --interval=30s --timeout=5s --start-period=10s CMD ["wsbridge", "healthcheck"]
ENTRYPOINT ["wsbridge"]
CMD ["serve"]
