"""Import, export, validation and coverage of candles, on the ports alone."""
