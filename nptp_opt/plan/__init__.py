"""The plan: its model, its document (JSON), and the network inside it."""
