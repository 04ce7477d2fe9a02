"""The gateway's OpenAPI document: its own endpoints, and what routes make reachable of the upstreams'."""
