"""Reading what was recorded: nothing here changes anything, and nothing is decided by it."""
