"""A service over HTTP: the Open Inference Protocol, version 2, and metrics."""
