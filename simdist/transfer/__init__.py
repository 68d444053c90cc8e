"""Collections as files: export, import, and what other programs have written."""
