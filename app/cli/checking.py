"""``tidegate check``, ``tidegate routes`` and ``tidegate presets``: what a configuration means, as tables."""

from __future__ import annotations

from rich.console import Console
from rich.table import Column, Table

from app.auth.discovery import discovery_url
from app.auth.tokens import TokenVerifier
from app.config import Config, IssuerConfig, RouteConfig, preset_names, preset_summary
from app.errors import ConfigError
from app.http.route_checks import findings, unreachable_routes
from app.http.routes import RouteTable

__all__ = ["show", "show_presets", "show_routes"]


def show(config: Config, file: str) -> None:
    """Print routes, generations and upstreams. Raises :exc:`~app.errors.ConfigError` for what cannot work."""
    _refuse_faults(config, file)
    _refuse_unusable(config, file)
    console = Console(highlight=False)
    for table in (_issuers(config), _routes(config), _generations(config), _upstreams(config)):
        if table.row_count:
            console.print(table)
    from app.composition.own_paths import own_paths  # noqa: PLC0415  (the other commands start faster without it)

    doubts: dict[str, list[str]] = {}
    for finding in findings(config.routes, own_paths(config)):
        doubts.setdefault(finding.what, []).append(f"routes\\[{finding.route.index}] {finding.route.config.path}")
    for what, routes in doubts.items():
        where = routes[0] if len(routes) == 1 else f"{len(routes)} routes ({', '.join(routes)}), each of which"
        console.print(f"[yellow]Look at[/] {where} {what}.", soft_wrap=True)
    broker = "Redis" if config.broker.shared else "an embedded Valkey" if config.broker.embedded else "memory"
    server = config.server
    console.print(
        f"The configuration is right: {server.environment}, {server.host}:{server.port}, "
        f"{server.workers} worker{'s' if server.workers > 1 else ''}, {broker}."
    )


def show_routes(config: Config, file: str) -> None:
    """Print the table of routes alone. Raises like :func:`show`."""
    _refuse_faults(config, file)
    table = _routes(config)
    console = Console(highlight=False)
    if table.row_count:
        console.print(table)
    else:
        console.print("There are no routes: add a table \\[\\[routes]] with a path and an upstream.")


def show_presets() -> None:
    """Print the name of each preset and what it is for."""
    table = Table.grid(padding=(0, 2))
    for name in preset_names():
        table.add_row(name, preset_summary(name))
    Console(highlight=False).print(table)


def _refuse_faults(config: Config, file: str) -> None:
    try:
        TokenVerifier(config.auth)
        RouteTable(config.routes)
        _refuse_unreachable(config)
    except ConfigError as error:
        raise ConfigError("\n".join(f"{file}: {line}" for line in error.message.splitlines())) from None


def _refuse_unusable(config: Config, file: str) -> None:
    from app.composition.rehearsal import refuse_unusable  # noqa: PLC0415  (the other commands start faster without it)

    try:
        refuse_unusable(config)
    except ConfigError as error:
        raise ConfigError(f"{file}: {error.message}") from None


def _refuse_unreachable(config: Config) -> None:
    faults = []
    for shadowed in unreachable_routes(config.routes):
        route = shadowed.route
        earlier = " and ".join(other.config.path for other in shadowed.by)
        faults.append(
            f"routes[{route.index}] ({route.config.path}) is never taken: {earlier}, which is earlier, takes all of "
            "its requests. Move it up, or remove it."
        )
    if faults:
        raise ConfigError("\n".join(faults))


def _whole(name: str) -> Column:
    """Return a column that is folded where it finds no room, and never cut off."""
    return Column(name, overflow="fold")


def _issuers(config: Config) -> Table:
    table = Table(
        "issuer", _whole("iss"), "algorithms", _whole("keys"), title="Issuers of tokens", title_justify="left"
    )
    for issuer in TokenVerifier(config.auth).issuers:
        each = issuer.config
        keys = (
            discovery_url(each.issuer[0])
            if each.describes_itself
            else each.jwks_url or ("a public key" if each.public_key else _secrets(each))
        )
        table.add_row(issuer.name, "\n".join(each.issuer) or "any other", " ".join(each.algorithms), keys)
    return table


def _secrets(issuer: IssuerConfig) -> str:
    count = bool(issuer.secret.get_secret_value()) + len(issuer.previous_secrets) + len(issuer.named_secrets)
    return "a secret" if count == 1 else f"{count} secrets"


def _routes(config: Config) -> Table:
    table = Table(_whole("path"), _whole("methods"), "token", _whole("goes to"), title="Routes", title_justify="left")
    for route in config.routes:
        hosts = "".join(f"{host} " for host in route.hosts)
        table.add_row(f"{hosts}{route.path}", _methods(route), _demands(route), _goal(route))
    return table


def _methods(route: RouteConfig) -> str:
    every = RouteConfig.model_fields["methods"].default
    return "all" if set(route.methods) == set(every) else " ".join(route.methods)


def _demands(route: RouteConfig) -> str:
    lines: list[str] = [route.auth]
    if route.roles:
        lines.append("role " + " or ".join(route.roles))
    if route.scopes:
        lines.append("scope " + " and ".join(route.scopes))
    lines += [path if value == "*" else f"{path} = {value}" for path, value in route.required_claims.items()]
    return "\n".join(lines)


def _goal(route: RouteConfig) -> str:
    if route.answer is not None:
        return f"answered here: {route.answer.status}"
    if route.rewrite:
        return f"{route.upstream} {route.rewrite}"
    return f"{route.upstream} without {route.strip_prefix}" if route.strip_prefix else route.upstream


def _generations(config: Config) -> Table:
    table = Table("kind", "format", _whole("path"), "upstream", title="Generations", title_justify="left")
    for kind, generation in config.generations.kinds.items():
        table.add_row(kind, generation.format, generation.path_or_default, generation.upstream)
    return table


def _upstreams(config: Config) -> Table:
    table = Table("upstream", _whole("targets"), "health", title="Upstreams", title_justify="left")
    for name, upstream in config.upstreams.items():
        if upstream.over_kafka:
            table.add_row(
                name, "\n".join(f"kafka {server}" for server in upstream.kafka.bootstrap_servers), "the broker"
            )
            continue
        table.add_row(name, "\n".join(upstream.targets) or "not set up: 501", upstream.health_path or "not asked")
    return table
