"""A package, so that fixtures can end with it: an idle service takes a sixth of a core."""
