"""Plans that answer: inputs from files, calls from Python, requests over HTTP."""
