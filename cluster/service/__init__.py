"""Searches over HTTP: query workers on Ray Serve."""
