"""How tensors and messages travel between devices."""
