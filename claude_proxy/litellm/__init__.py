"""Everything that knows LiteLLM's shapes."""
