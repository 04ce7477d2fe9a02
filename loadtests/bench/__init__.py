"""What the gateway costs, beside the least that the same work can cost in Python.

Each figure is a pair: the gateway and a *floor* server that does the bare work (no log, no checks, no recovery), fed
by the same upstream and read by the same client, in rounds that alternate, so that what the machine does meanwhile
hits both. Ratios are what counts: they hold on other machines, and microseconds do not.

* ``__main__``: the command; ``scenarios`` and ``http_scenarios``: what is measured; ``report``: the table.
* ``lab``: the processes of one scenario; ``process``: starting and stopping one; ``machine``: what /proc says of them.
* ``client`` makes the load in the command's own process. ``upstream`` and ``floor`` are programs of their own.
"""
