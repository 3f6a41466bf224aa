"""The run as a page that people look at."""
