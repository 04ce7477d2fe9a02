"""The sockets of served formats that are switched on."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

from app.auth.api_keys import ApiKeys
from app.auth.origins import Origins
from app.auth.tickets import Tickets
from app.composition.own_paths import CODE_PATH
from app.config import Config
from app.generations.responses import Responses
from app.generations.served import Served
from app.http.problems import problem
from app.streams.broker import Keys
from app.ws.served.code import CodeSockets
from app.ws.served.endpoint import ServedEndpoint, ServedSockets
from app.ws.served.responses import ResponseSockets
from app.ws.services import Services

__all__ = ["RESPONSES_PATH", "SocketFormats"]

RESPONSES_PATH = "/v1/responses"


class SocketFormats:
    """Makes their endpoints; what is open outlives a change of the configuration."""

    def __init__(self, services: Services, tickets: Tickets, keys: Keys, origins: Callable[[], Origins]) -> None:
        self.open = ServedSockets()
        self._services = services
        self._tickets = tickets
        self._keys = keys
        self._origins = origins

    def endpoints(self, config: Config) -> dict[str, Callable[..., Awaitable[None]]]:
        """Return ASGI applications of type ``websocket``, by path."""
        services = self._services
        generations, hub = services.generations, services.hub
        served = Served(config.served, config.generations)
        door = (services, self._tickets, ApiKeys(config.served.keys), self._origins, problem, self.open)
        endpoints: dict[str, Callable[..., Awaitable[None]]] = {}
        if (code := config.served.code).enabled:
            serve = CodeSockets(generations, hub, served).serve
            endpoint = ServedEndpoint(*door, serve, anonymous=code.anonymous, max_message=code.body_limit)
            endpoints[CODE_PATH] = endpoint
        if config.served.openai.enabled:
            responses = Responses(generations, self._keys, served)
            of_responses = ResponseSockets(generations, responses, hub, served, services.tasks)
            limit = config.server.body_limit
            endpoints[RESPONSES_PATH] = ServedEndpoint(*door, of_responses.serve, max_message=limit)
        return endpoints
