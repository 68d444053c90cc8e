"""All images of a collection with all others: near-duplicates, and what goes with what."""
