"""Statistics, tables and figures."""
