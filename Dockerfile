# The gateway and its reference services. The first stage installs, the second only runs.
FROM python:3.11-slim-bookworm AS build

WORKDIR /source
COPY pyproject.toml constraints.txt README.md LICENSE ./
COPY app ./app
COPY services ./services
COPY loadtests ./loadtests
RUN python -m venv /opt/tidegate \
    && /opt/tidegate/bin/pip install --no-cache-dir --disable-pip-version-check --constraint constraints.txt '.[services,load,otel]' \
    && /opt/tidegate/bin/pip uninstall --yes --quiet setuptools pip

FROM python:3.11-slim-bookworm

RUN useradd --system --uid 10001 --home-dir /srv/tidegate --create-home tidegate
COPY --from=build /opt/tidegate /opt/tidegate

ENV PATH=/opt/tidegate/bin:$PATH \
    PYTHONUNBUFFERED=1 \
    PYTHONDONTWRITEBYTECODE=1 \
    GATEWAY_SERVER__HOST=0.0.0.0 \
    GATEWAY_SERVER__LOG_FORMAT=json

WORKDIR /srv/tidegate
USER tidegate
EXPOSE 8080
# SIGTERM drains; the container's stop timeout must be longer than the drain.
STOPSIGNAL SIGTERM
HEALTHCHECK --interval=10s --timeout=3s --start-period=10s --retries=3 \
    CMD ["python", "-c", "import urllib.request; urllib.request.urlopen('http://127.0.0.1:8080/health/live', timeout=2)"]
ENTRYPOINT ["tidegate"]
CMD ["serve", "--preset", "demo"]
