"""Transfer learning on one's own categories: a source of images -> a model bundle."""
