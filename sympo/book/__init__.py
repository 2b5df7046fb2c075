"""What makes the paper of the studies: notebooks, figures, tables, checks. It needs a clone."""
