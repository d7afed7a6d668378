"""Redis as a store of its own: what is kept there may vanish at any time.

Its client is the extra ``redis``; nothing here imports it before it is used.
"""
