"""What others would do, to compare with."""
