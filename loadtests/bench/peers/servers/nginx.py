"""nginx; a single worker, for a master that is idle beside it is not wanted."""

import os
import sys
from pathlib import Path

_CONFIG = """
daemon off;
master_process off;
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
    location / {{
      proxy_pass http://bench; proxy_http_version 1.1; proxy_set_header Connection ""; proxy_buffering off;
    }}
  }}
}}
"""

if __name__ == "__main__":
    port, upstream, folder = sys.argv[1:4]
    config = Path(folder, f"nginx-{port}.conf")
    config.write_text(_CONFIG.format(folder=folder, port=port, upstream=upstream))
    program = "/usr/sbin/nginx"
    os.execl(program, "nginx", "-e", "stderr", "-c", str(config))
