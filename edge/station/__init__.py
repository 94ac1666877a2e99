"""A station at a line: its file, its checks, and what runs it."""
