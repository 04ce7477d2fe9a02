"""Sessions of the Centrifuge protocol for networks that break WebSockets.

What the session writes goes out as one long HTTP answer, over server-sent events or as a stream of lines; what its
client says comes as requests of their own, which may reach any replica. The session and its protocol are the same as
those of a socket: only the connection below them is another one.
"""
