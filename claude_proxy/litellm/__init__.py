"""All code that depends on LiteLLM's shapes."""
