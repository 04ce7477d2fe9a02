"""Other proxies, each as its makers would have it: one process, kept connections to the upstream, no log.

Run: python -m loadtests.bench.proxies fastapi --port 8001 --upstream 9100
"""

from __future__ import annotations

import argparse
import os
import shutil
from importlib.util import find_spec
from pathlib import Path
from typing import Any

__all__ = ["PROXIES", "installed"]

PROXIES = {"nginx": "nginx", "FastAPI + httpx": "fastapi"}
"""By their name in the table: what they are called here."""
_NGINX = """
daemon off;
worker_processes 1;
pid {folder}/nginx-{port}.pid;
error_log stderr crit;
events {{ worker_connections 4096; }}
http {{
  access_log off;
  client_body_temp_path {folder}; proxy_temp_path {folder}; fastcgi_temp_path {folder};
  uwsgi_temp_path {folder}; scgi_temp_path {folder};
  keepalive_requests 100000000;
  upstream bench {{ server 127.0.0.1:{upstream}; keepalive 256; keepalive_requests 100000000; }}
  server {{
    listen 127.0.0.1:{port};
    location / {{ proxy_pass http://bench; proxy_http_version 1.1; proxy_set_header Connection ""; }}
  }}
}}
"""


def installed(name: str) -> bool:
    if PROXIES[name] == "nginx":
        return shutil.which("nginx") is not None
    return all(find_spec(package) is not None for package in ("fastapi", "httpx"))


def _nginx(port: int, upstream: int, folder: Path) -> None:
    """Become nginx; a single worker, its master idle beside it, is not wanted: so there is no master."""
    config = folder / f"nginx-{port}.conf"
    config.write_text("master_process off;" + _NGINX.format(folder=folder, port=port, upstream=upstream))
    os.execlp("nginx", "nginx", "-e", "stderr", "-c", str(config))


def _fastapi(port: int, upstream: int, folder: Path) -> None:
    """The proxy of many a tutorial: one client for all, the answer streamed."""
    import httpx  # noqa: PLC0415
    import uvicorn  # noqa: PLC0415
    from fastapi import FastAPI, Request  # noqa: PLC0415
    from starlette.background import BackgroundTask  # noqa: PLC0415
    from starlette.responses import StreamingResponse  # noqa: PLC0415

    app = FastAPI()
    client = httpx.AsyncClient(base_url=f"http://127.0.0.1:{upstream}", timeout=None)

    async def proxy(request: Request) -> Any:
        url = httpx.URL(path=request.url.path, query=request.url.query.encode())
        asked = client.build_request(request.method, url, headers=request.headers.raw, content=await request.body())
        answer = await client.send(asked, stream=True)
        return StreamingResponse(
            answer.aiter_raw(), answer.status_code, dict(answer.headers), background=BackgroundTask(answer.aclose)
        )

    proxy.__annotations__["request"] = Request  # a local name, which FastAPI could not look up
    app.api_route("/{path:path}", methods=["GET", "POST"])(proxy)
    uvicorn.run(app, host="127.0.0.1", port=port, loop="uvloop", log_level="error", access_log=False)


def main() -> None:
    parser = argparse.ArgumentParser(description="Other proxies.")
    parser.add_argument("name", choices=sorted(PROXIES.values()))
    parser.add_argument("--port", type=int, default=8001)
    parser.add_argument("--upstream", type=int, default=9100)
    parser.add_argument("--folder", type=Path, default=Path())
    options = parser.parse_args()
    {"nginx": _nginx, "fastapi": _fastapi}[options.name](options.port, options.upstream, options.folder)


if __name__ == "__main__":
    main()
