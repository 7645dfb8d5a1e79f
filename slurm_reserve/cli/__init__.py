"""The command line: parse and print. Nothing is decided here."""
