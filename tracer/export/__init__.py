"""The event stream: documents and their writers."""
