"""Summaries: sentences of a text that say most of it, or a language model's words where one is configured."""
