"""A benchmark's result document, shown: as tables, as Markdown, as CSV and as an HTML report."""
