"""The configuration.

``model`` and ``services`` say what can be set, ``loading`` reads it from a file, the environment and flags.
"""

from app.config.loading import load_config
from app.config.model import (
    DEVELOPMENT_SECRET,
    AuthConfig,
    BrokerConfig,
    CentrifugeConfig,
    ChannelConfig,
    Config,
    RealtimeConfig,
    ServerApiConfig,
    ServerConfig,
)
from app.config.services import GenerationConfig, GenerationsConfig, RouteConfig, UpstreamConfig

__all__ = [
    "DEVELOPMENT_SECRET",
    "AuthConfig",
    "BrokerConfig",
    "CentrifugeConfig",
    "ChannelConfig",
    "Config",
    "GenerationConfig",
    "GenerationsConfig",
    "RealtimeConfig",
    "RouteConfig",
    "ServerApiConfig",
    "ServerConfig",
    "UpstreamConfig",
    "load_config",
]
