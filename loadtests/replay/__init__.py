"""Plays recorded sessions against a gateway, many times at once, breaks things meanwhile, and keeps the books.

Black box: nothing of the gateway is imported. :mod:`.histogram`, :mod:`.tally`, :mod:`.wire`, :mod:`.books`,
:mod:`.correlation`, :mod:`.plan`, :mod:`.desk`, the protocols :mod:`.native`, :mod:`.centrifuge` and :mod:`.raw`,
:mod:`.verdict`, :mod:`.charts` and :mod:`.report` hold no socket and no clock. :mod:`.line` is one socket, :mod:`.tab`
a page with one after the other, :mod:`.user` plays one recording, :mod:`.worker` is a process of users, and
:mod:`.crew` runs the processes.
"""
