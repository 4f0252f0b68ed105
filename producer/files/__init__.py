"""Open, write and replace files, whatever they contain."""
