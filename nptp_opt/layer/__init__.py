"""One layer: its problem, its result, the registry of methods, and ``solve_layer``."""
