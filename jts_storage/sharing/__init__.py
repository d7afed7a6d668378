"""One embedded folder for several processes: one has the stores, and serves them to the others."""
