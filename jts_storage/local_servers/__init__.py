"""Servers as child processes of this host: MongoDB, PostgreSQL and Redis, and their folders."""
