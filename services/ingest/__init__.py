"""Takes companies' documents in: text, Markdown, HTML and PDF become passages that can be searched."""
