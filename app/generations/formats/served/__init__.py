"""Our events in the formats of other systems: encoders, and readers of what those systems' clients ask for.

Each encoder takes the JSON texts of one generation's events in the order of their offsets, merged or not, and returns
what its format sends for them; it is the other direction of the decoders one folder up, and tests hold the two against
each other. All are pure: ids and times are arguments.
"""
