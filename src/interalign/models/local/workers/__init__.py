"""Worker processes of an `hf:` model, each with the weights of its own."""
