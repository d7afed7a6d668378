"""The files that some servers want; each is written anew at each start, so edits belong elsewhere.

The full configurations, with rules, dashboards and receivers, are in `ops`.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Final
from xml.sax.saxutils import escape

from jts_storage.services.stack import HOST, METRICS

_CLICKHOUSE: Final = """\
<clickhouse>
  <logger><console>1</console><level>warning</level></logger>
  <listen_host>{host}</listen_host>
  <tcp_port>{port}</tcp_port>
  <path>{folder}/data/</path>
  <tmp_path>{folder}/tmp/</tmp_path>
  <user_files_path>{folder}/user_files/</user_files_path>
  <mark_cache_size>268435456</mark_cache_size>
  <profiles><default/></profiles>
  <quotas><default/></quotas>
  <users>
    <default>
      <password/>
      <networks><ip>127.0.0.1</ip></networks>
      <profile>default</profile>
      <quota>default</quota>
      <access_management>1</access_management>
    </default>
  </users>
</clickhouse>
"""

_PROMETHEUS: Final = """\
global: {{scrape_interval: 5s, evaluation_interval: 5s}}
alerting:
  alertmanagers: [{{static_configs: [{{targets: ["{host}:{alertmanager}"]}}]}}]
scrape_configs:
  - job_name: jts_storage
    static_configs: [{{targets: ["{host}:{metrics}"]}}]
"""

_ALERTMANAGER: Final = """\
route: {receiver: nobody, group_by: [alertname], group_wait: 1s, group_interval: 10s}
receivers: [{name: nobody}]
"""

_NGINX: Final = """\
pid nginx.pid;
worker_processes 1;
events {{ worker_connections 1024; }}
http {{
  access_log off;
  client_body_temp_path body;
  proxy_temp_path proxy;
  fastcgi_temp_path fastcgi;
  uwsgi_temp_path uwsgi;
  scgi_temp_path scgi;
  server {{
    listen {host}:{port} ssl http2;
    ssl_certificate "{certificates}/server.pem";
    ssl_certificate_key "{certificates}/server.key";
    ssl_protocols TLSv1.2 TLSv1.3;
    client_max_body_size 0;
    location / {{
      grpc_pass grpc://{host}:{gateway};
      grpc_read_timeout 1h;
      grpc_send_timeout 1h;
    }}
  }}
}}
"""


def clickhouse(folder: Path, port: int) -> Path:
    for name in ("data", "tmp", "user_files"):
        (folder / name).mkdir(exist_ok=True)
    text = _CLICKHOUSE.format(host=HOST, port=port, folder=escape(str(folder)))
    return _written(folder / "config.xml", text)


def prometheus(folder: Path, ports: Mapping[str, int]) -> Path:
    text = _PROMETHEUS.format(host=HOST, alertmanager=ports["alertmanager"], metrics=ports[METRICS])
    return _written(folder / "prometheus.yml", text)


def alertmanager(folder: Path) -> Path:
    return _written(folder / "alertmanager.yml", _ALERTMANAGER)


def nginx(folder: Path, ports: Mapping[str, int], certificates: Path) -> Path:
    # From its own folder on, whose name nginx would not take with a `$` in it.
    where = _quoted(os.path.relpath(certificates, folder))
    text = _NGINX.format(
        host=HOST, port=ports["nginx"], gateway=ports["gateway"], certificates=where
    )
    return _written(folder / "nginx.conf", text)


def _quoted(path: str) -> str:
    """As it stands between the quotes of nginx."""
    return path.replace("\\", "\\\\").replace('"', '\\"')


def _written(file: Path, text: str) -> Path:
    draft = file.with_name(f"{file.name}.new")
    draft.write_text(text)
    draft.replace(file)
    return file
