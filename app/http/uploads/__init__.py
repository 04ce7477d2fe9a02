"""Uploads: bodies of ``multipart/form-data``, read and checked while they pass."""
