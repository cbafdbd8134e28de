"""Who speaks when: LangGraph state machines."""
