"""Scripts that work on the repository; nothing of the package needs them."""
