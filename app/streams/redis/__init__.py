"""The broker's ports over Redis or Valkey, for any number of replicas.

``writer`` is the ledger, and ``writebehind`` brings what it appends to Redis, with an ``outgoing`` for each stream that
it owns and ``finished`` for those that it owned; ``reader`` is the broker, with its ``subscriptions``, and a
``witness`` of what was in the logs; the ``client`` sends commands that are waited for. Each of the three has its own
``links``: to every master a ``link``, a pipelined connection on hiredis. Who the masters are a ``topology`` knows: one
``server``, the one that ``sentinel`` processes name, or those of a ``cluster``. ``layout`` names the keys and the wire
form of a batch; ``lua`` holds the atomic steps, ``script`` their names; ``embedded`` starts a server for those who have
none.
"""
