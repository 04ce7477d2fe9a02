"""The configuration.

``model`` and a module for each of its tables say what can be set; ``loading`` reads it from a preset, a file, the
environment and flags.
"""

from app.config.auth import AuthConfig, ServerApiConfig
from app.config.broker import BrokerConfig
from app.config.cache import CacheConfig, RouteCacheConfig
from app.config.edge import CompressionConfig, CorsConfig, RequestsConfig, SecurityHeadersConfig
from app.config.events import EVENT_FIELDS, EventsConfig, EventSinkConfig
from app.config.generations import GenerationConfig, GenerationsConfig
from app.config.issuers import DEVELOPMENT_SECRET, KNOWN_SECRETS, IssuerConfig
from app.config.jobs import JobConfig, RouteGenerationConfig
from app.config.kafka import KafkaConfig, KafkaSinkConfig, KafkaUpstreamConfig
from app.config.limits import RateLimitConfig
from app.config.loading import load_config
from app.config.model import Config
from app.config.presets import preset_names, preset_summary
from app.config.realtime import CentrifugeConfig, ChannelConfig, EmulationConfig, LimitsConfig, RealtimeConfig
from app.config.reloading import Reloaded, Source
from app.config.routes import AnswerConfig, HeadersConfig, RouteConfig
from app.config.schema import dotted
from app.config.served import ServedCodeConfig, ServedConfig, ServedKeyConfig, ServedModelConfig, ServedOpenAIConfig
from app.config.server import HealthPagesConfig, ServerConfig, StormConfig
from app.config.upstreams import BreakerConfig, HealthConfig, HedgeConfig, RetriesConfig, UpstreamConfig
from app.config.webhooks import WebhookConfig

__all__ = [
    "DEVELOPMENT_SECRET",
    "EVENT_FIELDS",
    "KNOWN_SECRETS",
    "AnswerConfig",
    "AuthConfig",
    "BreakerConfig",
    "BrokerConfig",
    "CacheConfig",
    "CentrifugeConfig",
    "ChannelConfig",
    "CompressionConfig",
    "Config",
    "CorsConfig",
    "EmulationConfig",
    "EventSinkConfig",
    "EventsConfig",
    "GenerationConfig",
    "GenerationsConfig",
    "HeadersConfig",
    "HealthConfig",
    "HealthPagesConfig",
    "HedgeConfig",
    "IssuerConfig",
    "JobConfig",
    "KafkaConfig",
    "KafkaSinkConfig",
    "KafkaUpstreamConfig",
    "LimitsConfig",
    "RateLimitConfig",
    "RealtimeConfig",
    "Reloaded",
    "RequestsConfig",
    "RetriesConfig",
    "RouteCacheConfig",
    "RouteConfig",
    "RouteGenerationConfig",
    "SecurityHeadersConfig",
    "ServedCodeConfig",
    "ServedConfig",
    "ServedKeyConfig",
    "ServedModelConfig",
    "ServedOpenAIConfig",
    "ServerApiConfig",
    "ServerConfig",
    "Source",
    "StormConfig",
    "UpstreamConfig",
    "WebhookConfig",
    "dotted",
    "load_config",
    "preset_names",
    "preset_summary",
]
