"""LiteLLM's proxy with one model, whose upstream speaks OpenAI's API."""

import os
import sys
from pathlib import Path

_CONFIG = """
model_list:
  - model_name: bench
    litellm_params:
      model: openai/bench
      api_base: http://127.0.0.1:{upstream}/v1
      api_key: none
litellm_settings:
  drop_params: true
  telemetry: false
  num_retries: 0
"""


def serve(port: str, upstream: str, folder: str) -> None:
    """Run what the command ``litellm`` runs, with one worker in this process."""
    config = Path(folder, f"litellm-{port}.yaml")
    config.write_text(_CONFIG.format(upstream=upstream))
    os.environ |= {"LITELLM_LOG": "ERROR", "LITELLM_MODE": "PRODUCTION", "LITELLM_LOCAL_MODEL_COST_MAP": "True"}
    os.environ["LITELLM_DANGEROUSLY_PERMIT_WEAK_OR_UNSET_MASTER_KEY"] = "true"  # It looks at no token, as all others.
    from litellm import run_server  # noqa: PLC0415  # It reads the environment as it is imported.

    sys.argv = ["litellm", "--config", str(config), "--host", "127.0.0.1", "--port", port, "--num_workers", "1"]
    run_server()


if __name__ == "__main__":
    serve(*sys.argv[1:4])
