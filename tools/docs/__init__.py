"""What the documentation site generates from the code: ``hooks`` is where mkdocs comes in."""
