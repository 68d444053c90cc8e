"""Bytes -> checked RGB pixels."""
