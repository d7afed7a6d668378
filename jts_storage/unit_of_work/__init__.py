"""The unit of work: one commit over ClickHouse, MongoDB and SQL.

``unit`` is what a service holds, ``staged`` what it has written and not committed. ``commit`` is
the order of a commit's steps, ``participants`` what each store does in them, ``clock`` gives it its
place among all commits. ``journal`` (its format in ``journal_format``) is what a crash leaves to
finish; ``outbox`` and ``delivery`` are the way of its events.
"""
