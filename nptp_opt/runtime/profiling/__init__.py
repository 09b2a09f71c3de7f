"""What devices and links really do, measured."""
