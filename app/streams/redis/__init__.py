"""The broker's ports over Redis or Valkey, for any number of replicas.

``writer`` is the ledger, with an ``outgoing`` for each stream that it owns, and ``reader`` the broker. Each has a
``link`` of its own for the hot path (appends, Pub/Sub), a pipelined connection on hiredis, and the ``client``, which is
redis-py, for the rest. ``layout`` names the keys and the wire form of a batch; ``lua`` holds the atomic steps;
``embedded`` starts a server for those who have none.
"""
