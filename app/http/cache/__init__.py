"""The response cache of routes that ask for one (RFC 9111, as a shared cache).

``directives``, ``entry``, ``policy``, ``conditions`` and ``keys`` are pure: what may be kept, how long, for whom, and
what is answered from it. ``store`` is the port for where entries lie, with ``memory`` and ``redis`` behind it.
``flight`` is one upstream answer that several clients share, and ``cache`` joins all of it for the proxy.
"""
