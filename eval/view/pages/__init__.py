"""The built-in pages, a file each."""
