"""The in-memory twin of every store: rows below mappers, transactions and conflicts included."""
