"""The side that starts workers, feeds them inputs and compares what comes back."""
