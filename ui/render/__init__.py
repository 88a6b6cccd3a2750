"""Values to HTML: pure functions, everything that comes from a document, a file name or a model escaped."""
