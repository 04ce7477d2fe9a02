"""What can be set about posts of upstreams that are not Tidegate's own."""

from __future__ import annotations

import binascii
from base64 import b64decode
from typing import Annotated, Literal

from pydantic import Field, SecretStr, model_validator

from app.config.jobs import check_path_into
from app.config.section import Section, WrongSetting

__all__ = ["WebhookConfig"]


class WebhookConfig(Section):
    """Who may post to `/api/v1/webhooks/<name>`, and how he signs."""

    scheme: Literal["standard", "hmac"] = "standard"
    """[Standard Webhooks](https://www.standardwebhooks.com) (`webhook-id`, `webhook-timestamp`, `webhook-signature`),
    or an HMAC-SHA256 in one header."""
    secrets: tuple[Annotated[SecretStr, Field(min_length=8)], ...]
    """The shared secrets, `whsec_…` or any text. Several while they rotate: each is good."""
    tolerance: float = Field(300.0, gt=0)
    """How far the post's time may be from ours."""
    job: str = "$.id"
    """Where the body names the job."""
    header: str = "X-Signature-256"
    """With `hmac`: where the signature stands."""
    prefix: str = "sha256="
    """With `hmac`: what stands before it."""
    encoding: Literal["hex", "base64"] = "hex"
    """With `hmac`: how it is written."""
    timestamp_header: str = ""
    """With `hmac`: where the time stands (seconds since 1970), which is signed with a dot before the body; empty where
    none is signed. Then an old post can be sent again by who has seen it."""
    id_header: str = ""
    """With `hmac`: where the post's id stands, by which a repetition is known; empty for the signed text itself."""

    @model_validator(mode="after")
    def _secrets_are_some(self) -> WebhookConfig:
        if not self.secrets:
            raise WrongSetting(("secrets",), "is empty. Give the secret that the upstream signs with")
        for index, secret in enumerate(self.secrets):
            text = secret.get_secret_value()
            if self.scheme == "standard" and text.startswith("whsec_"):
                try:
                    b64decode(text[len("whsec_") :], validate=True)
                except binascii.Error:
                    raise WrongSetting(("secrets", index), "is no base 64 after whsec_") from None
        check_path_into(("job",), self.job)
        return self
