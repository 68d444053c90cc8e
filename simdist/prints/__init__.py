"""Prints: small grey pictures, taken when an image is decoded, and how alike two of them are."""
