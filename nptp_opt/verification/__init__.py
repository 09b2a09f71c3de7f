"""Is a plan right? On paper, in torch, and against a witness."""
