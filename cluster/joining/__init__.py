"""All images of a collection with all others, spread over Ray."""
