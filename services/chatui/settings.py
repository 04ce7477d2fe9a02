"""What can be set: in code by name, in the environment as ``CHATUI_<NAME>``."""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar

from pydantic import Field, SecretStr

from services.database.database import DatabaseUrl
from services.web.settings import ServiceSettings

__all__ = ["ChatUiSettings"]


class ChatUiSettings(ServiceSettings):
    """The chat UI service's settings."""

    prefix: ClassVar[str] = "CHATUI_"
    also: ClassVar[Mapping[str, str]] = {
        "jwt_secret": "JWT_SECRET",
        "kafka_servers": "CHAT_SERVICE_KAFKA_BOOTSTRAP_SERVERS",
        "fetch_wait": "CHAT_SERVICE_KAFKA_FETCH_WAIT",
        "events_topic": "CHAT_SERVICE_EVENTS_TOPIC",
        "cancels_topic": "CHAT_SERVICE_CANCELS_TOPIC",
        "dead_letters_topic": "CHAT_SERVICE_DEAD_LETTERS_TOPIC",
        "conversations_topic": "CHAT_UI_CONVERSATIONS_TOPIC",
        "messages_topic": "CHAT_UI_MESSAGES_TOPIC",
        "ai_conversation_topic": "CHAT_UI_AI_CONVERSATION_TOPIC",
        "gen_title_topic": "CHAT_UI_GEN_TITLE_TOPIC",
        "upload_conversations_topic": "CHAT_UI_UPLOAD_CONVERSATIONS_TOPIC",
        "prompts_topic": "CHAT_UI_PROMPTS_TOPIC",
        "documents_topic": "CHAT_UI_DOCUMENTS_TOPIC",
        "settings_topic": "CHAT_UI_SETTINGS_TOPIC",
    }

    database_url: DatabaseUrl = "sqlite:///out/chatui.db"
    """``sqlite:///file`` or ``postgresql://user:password@host/name``."""
    jwt_secret: SecretStr = SecretStr("tidegate-development-secret-not-for-production")
    """Verifies access tokens (HS256). Also read from JWT_SECRET."""
    kafka_servers: str = ""
    """``host:port`` of brokers, separated by commas; empty to be reached by HTTP alone."""
    group: str = "chat-ui-service"
    """The group in which several processes share the requests."""
    fetch_wait: float = Field(0.1, gt=0, le=10)
    """Seconds that a broker keeps a question for requests while there are none."""
    topic_partitions: int = Field(6, ge=0, le=1000)
    """Of topics that are made where they are not there; 0 to make none."""
    events_topic: str = "chat-service-events"
    cancels_topic: str = "chat-service-cancels"
    """By which the gateway says whose clients left; their answers are ended."""
    dead_letters_topic: str = "chat-service-dead-letters"
    """For messages that are no request."""
    conversations_topic: str = "chat-ui-conversations"
    messages_topic: str = "chat-ui-messages"
    ai_conversation_topic: str = "chat-ui-ai-conversation"
    gen_title_topic: str = "chat-ui-gen-title"
    upload_conversations_topic: str = "chat-ui-upload-conversations"
    prompts_topic: str = "chat-ui-prompts"
    documents_topic: str = "chat-ui-documents"
    settings_topic: str = "chat-ui-settings"
    outbox_limit: int = Field(100_000, ge=1)
    """Events that wait for a broker that is away; past it new ones are dropped, and counted."""
    tokens_per_second: float = Field(50.0, ge=0)
    """Pace of an answer; 0 is as fast as possible."""
    max_tokens: int = Field(256, ge=1, le=4096)
    """Of an answer."""
    body_limit: int = Field(1024 * 1024, ge=1024)

    @property
    def servers(self) -> list[str]:
        """The brokers."""
        return [server.strip() for server in self.kafka_servers.split(",")]

    @property
    def topics(self) -> list[str]:
        """Where requests come from."""
        return [
            self.conversations_topic, self.messages_topic, self.ai_conversation_topic, self.gen_title_topic,
            self.upload_conversations_topic, self.prompts_topic, self.documents_topic, self.settings_topic,
        ]  # fmt: skip
