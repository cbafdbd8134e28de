"""Who speaks: role protocols, registry, the user, inducer, candidate and judge."""
