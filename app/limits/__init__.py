"""What callers may have: requests in a window, calls at once, tokens of language models.

``shares`` says who shares a count and ``fields`` what callers are told, both pure, as ``estimate`` is, which counts
tokens that nobody counted. ``tokens`` keeps budgets; ``limits`` joins all of it for whoever lets requests, sockets or
generations in.
"""
