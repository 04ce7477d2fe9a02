"""The demo of the preset ``screenshot-to-code``."""

from app.demo.companions import code, image
from app.demo.system import System

__all__ = ["SYSTEM"]

SYSTEM = System(
    {"code": code, "images": image},
    try_first=(
        "TOKEN=$({tidegate} token --preset screenshot-to-code --sub 42)",
        'curl {url}/api/v1/images/generate -H "Authorization: Bearer $TOKEN" --json \'{{"prompt": "a red boat"}}\'',
    ),
)
