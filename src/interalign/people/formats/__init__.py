"""Persona sets as others publish them: one file a format, found by `registries.PERSONA_FORMATS`."""
