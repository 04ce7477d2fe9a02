"""Answers questions from companies' documents: passages found by BM25, sentences chosen from them, with citations."""
