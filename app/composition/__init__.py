"""The composition root: the one place that knows all parts and joins them.

``parts`` starts and ends everything in order; ``sockets``, ``rest`` and ``broker`` put together one side each.
"""
