"""From a model name to replies. All HTTP lives here."""
