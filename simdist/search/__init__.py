"""Asking a collection: in this process, or through a service."""
