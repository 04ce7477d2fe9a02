"""A real browser behind a network that breaks WebSockets, with the SDK as its users have it.

Its page is of one replica's origin, its stream is held by another one, and what it says reaches the first.
"""

from __future__ import annotations

from pathlib import Path

import pytest
from playwright.sync_api import Browser

from tests.sdk.conftest import packages
from tests.support.browser import recorded_page
from tests.support.gateway import token
from tests.support.valkey import ValkeyServer
from tests.ws.emulation.support import start

__all__ = ["packages"]  # the fixture

SCRIPT = """
async ([transports, emulationEndpoint, token]) => {
  const delays = { minReconnectDelay: 10, maxReconnectDelay: 100 };
  const client = new Centrifuge(transports, { emulationEndpoint, token, ...delays });
  const got = [];
  const connected = new Promise((resolve) => client.on("connected", resolve));
  const subscription = client.newSubscription("room:1");
  const all = new Promise((resolve) => subscription.on("publication", ({ data, offset }) => {
    got.push([data, offset]);
    if (got.length === 60) resolve(got);
  }));
  const subscribed = new Promise((resolve) => subscription.on("subscribed", resolve));
  subscription.subscribe();
  client.connect();
  const { transport } = await connected;
  await subscribed;
  for (let number = 0; number < 60; number++) await subscription.publish(number);
  const publications = await all;
  client.disconnect();
  return { transport, publications };
}
"""


@pytest.mark.parametrize("transport", ["http_stream", "sse"])
def test_a_page_falls_back_and_talks_over_two_replicas(
    browser: Browser,
    packages: Path,
    tmp_path: Path,
    valkey: ValkeyServer,
    prefix: str,
    transport: str,
) -> None:
    one = start(tmp_path, "one", valkey, prefix)
    other = start(tmp_path, "other", valkey, prefix, one.http)
    try:
        with recorded_page(browser) as (page, _):
            page.route_web_socket("**/*", lambda route: route.close())
            page.goto(f"{one.http}/health/live")
            page.add_script_tag(path=packages / "node_modules/centrifuge/dist/centrifuge.js")
            transports = [
                {"transport": "websocket", "endpoint": f"ws://127.0.0.1:{other.port}/connection/websocket"},
                {"transport": transport, "endpoint": f"{other.http}/connection/{transport}"},
            ]
            told = page.evaluate(SCRIPT, [transports, f"{one.http}/emulation", token()])
    finally:
        one.stop()
        other.stop()
    assert told["transport"] == transport
    assert told["publications"] == [[number, number + 1] for number in range(60)]
