"""What makes the paper of the studies: notebooks, figures, tables, checks. It needs a clone."""

from sympo.book import kernel

# here, because every notebook that shows a result imports this package
kernel.watch()
