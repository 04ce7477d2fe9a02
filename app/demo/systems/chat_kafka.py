"""The demo of the preset ``chat-kafka``, with a broker of its own."""

from app.demo.kafka import broker
from app.demo.system import System

__all__ = ["SYSTEM"]

SYSTEM = System({}, try_first=("curl {url}/health",), backdrop=broker)
