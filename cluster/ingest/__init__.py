"""The ingest pipeline on Ray."""
