"""The map of the code; ``docs/architecture.md`` has it with its layers.

- ``cli``, ``serving``: the commands, and uvicorn as sockets and proxying need it
- ``main``, ``composition``: the ASGI application, and the one place that joins all parts
- ``ws``, ``http``: the two front doors; they do not know each other
- ``generations``: what upstream jobs are, from their bytes to their receipts; ``limits``: who is let in
- ``streams``: positions, fan-out, catch-up, and the brokers; ``auth``: who somebody is; ``events``: what is told of all
- ``observe``, ``kafka``, ``config``, ``errors``: what everything may use
- ``demo``, ``presets``, ``web``: systems to try, configurations for them, and the pages that browsers load
"""
