"""A collection in Redis: its hash tables, how they are written, grown and measured."""
