# The gateway, and every other command of jts-storage: `docker build -t jts-storage-gateway .`
# What it may install is what constraints.txt has; tests/ops/test_image.py holds this file to rules.
FROM python:3.13.7-slim-bookworm AS build

WORKDIR /src
COPY constraints.txt pyproject.toml README.md CHANGELOG.md LICENSE ./
COPY migrations migrations
COPY jts_storage jts_storage
RUN python -m venv /opt/jts \
    && /opt/jts/bin/pip install --no-cache-dir --constraint constraints.txt \
    '.[grpc,cli,postgres,redis,metrics,backup]'


FROM python:3.13.7-slim-bookworm AS gateway

# What it writes goes there: rows that wait for their commit, and backups. Compose runs it as the user
# whose certificates it reads, whoever that is, so everybody may write, as to /tmp.
RUN groupadd --gid 10001 jts \
    && useradd --uid 10001 --gid jts --no-create-home --home-dir /var/lib/jts jts \
    && install --directory --mode 1777 /var/lib/jts /var/lib/jts/backups

COPY --from=build /opt/jts /opt/jts
ENV PATH=/opt/jts/bin:$PATH \
    HOME=/var/lib/jts \
    TMPDIR=/var/lib/jts \
    PYTHONUNBUFFERED=1

USER 10001:10001
WORKDIR /var/lib/jts
EXPOSE 7420 9108
STOPSIGNAL SIGTERM
# 200 while it and all its stores answer. Of /health no token is asked, and nothing of ours is imported.
HEALTHCHECK --interval=10s --timeout=6s --start-period=60s --retries=6 \
    CMD ["python", "-c", "import urllib.request; urllib.request.urlopen('http://127.0.0.1:9108/health', timeout=5)"]
ENTRYPOINT ["jts-storage"]
CMD ["serve", "--listen=0.0.0.0:7420", "--metrics=0.0.0.0:9108", "--tls-cert=/run/certificates/server/server.pem", "--tls-key=/run/certificates/server/server.key", "--tokens=/run/secrets/tokens"]
