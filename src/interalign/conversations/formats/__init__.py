"""One file a format of recorded conversations; `base` says what a format is."""
