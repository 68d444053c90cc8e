"""Tests on several machines, each of them a set of namespaces: `make test-machines`."""
