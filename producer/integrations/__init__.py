"""Adapters for LangChain, LlamaIndex, Haystack and PyTerrier, one module for each library."""
