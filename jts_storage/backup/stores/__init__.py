"""How each store is pinned, copied into a repository, and filled from it."""
