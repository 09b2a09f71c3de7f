"""What a plan costs, by every measure, without any search."""
