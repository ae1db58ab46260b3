"""Run folders, who works on them, and the tables made from them."""
