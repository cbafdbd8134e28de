"""A judge, a LangGraph agent and a hook for interalign."""
