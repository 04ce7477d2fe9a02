"""``tidegate check``: what a configuration means, as tables."""

from __future__ import annotations

from rich.console import Console
from rich.table import Table

from app.auth.tokens import TokenVerifier
from app.config import Config, RouteConfig
from app.errors import ConfigError
from app.http.routes import RouteTable, unreachable_routes

__all__ = ["show"]


def show(config: Config, file: str) -> None:
    """Print routes, generations and upstreams. Raises :exc:`~app.errors.ConfigError` for what cannot work."""
    try:
        TokenVerifier(config.auth)
        RouteTable(config.routes)
        _refuse_unreachable(config)
    except ConfigError as error:
        raise ConfigError("\n".join(f"{file}: {line}" for line in error.message.splitlines())) from None
    console = Console(highlight=False)
    for table in (_routes(config), _generations(config), _upstreams(config)):
        if table.row_count:
            console.print(table)
    broker = "Redis" if config.broker.redis_url else "an embedded Valkey" if config.broker.embedded else "memory"
    server = config.server
    console.print(
        f"The configuration is right: {server.environment}, {server.host}:{server.port}, "
        f"{server.workers} worker{'s' if server.workers > 1 else ''}, {broker}."
    )


def _refuse_unreachable(config: Config) -> None:
    faults = []
    for shadowed in unreachable_routes(config.routes):
        index = config.routes.index(shadowed.route)
        earlier = " and ".join(route.path for route in shadowed.by)
        faults.append(f"routes[{index}] ({shadowed.route.path}) is never taken: {earlier}, which is earlier, takes all "
                      f"of its requests. Move it up, or remove it.")  # fmt: skip
    if faults:
        raise ConfigError("\n".join(faults))


def _routes(config: Config) -> Table:
    table = Table("path", "methods", "token", "upstream", title="Routes", title_justify="left")
    for route in config.routes:
        table.add_row(route.path, _methods(route), route.auth, route.upstream)
    return table


def _methods(route: RouteConfig) -> str:
    every = RouteConfig.model_fields["methods"].default
    return "all" if set(route.methods) == set(every) else " ".join(route.methods)


def _generations(config: Config) -> Table:
    table = Table("kind", "format", "path", "upstream", title="Generations", title_justify="left")
    for kind, generation in config.generations.kinds.items():
        table.add_row(kind, generation.format, generation.path, generation.upstream)
    return table


def _upstreams(config: Config) -> Table:
    table = Table("upstream", "targets", "health", title="Upstreams", title_justify="left")
    for name, upstream in config.upstreams.items():
        table.add_row(name, "\n".join(upstream.targets), upstream.health_path or "not asked")
    return table
