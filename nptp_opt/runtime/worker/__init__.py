"""The side of one device."""
