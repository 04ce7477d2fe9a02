"""NATS with its WebSocket listener; the other one, which it insists on, is on any free port."""

import os
import sys
from pathlib import Path

_CONFIG = """
host: 127.0.0.1
port: -1
ping_interval: "5m"
max_connections: 100000
websocket {{ host: 127.0.0.1, port: {port}, no_tls: true, compression: false }}
"""

if __name__ == "__main__":
    config = Path(sys.argv[3], f"nats-{sys.argv[1]}.conf")
    config.write_text(_CONFIG.format(port=sys.argv[1]))
    os.environ["GOMAXPROCS"] = "1"
    os.execlp("nats-server", "nats-server", "-c", str(config))
