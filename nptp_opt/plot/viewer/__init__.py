"""The plan viewer: one self-contained page that shows a plan at work (docs/viewer.md)."""
