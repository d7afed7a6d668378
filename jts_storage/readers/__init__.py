"""Files and frames as columns: CSV, JSON lines, Parquet, Arrow, and what people write in them."""
