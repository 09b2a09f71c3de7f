"""Small changes that make a plan better."""
