"""From tables to words and figures."""
