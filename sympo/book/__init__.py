"""What makes the paper of the studies: notebooks, figures, tables, checks. It needs a clone."""

import sys
from typing import Any, cast

from sympo.book import kernel

# nbformat imports jsonschema, which then builds a parser of addresses, in two seconds of the three
# that nbformat takes; without that module it does without, and no notebook is checked by it
cast(dict[str, Any], sys.modules).setdefault("rfc3987_syntax", None)

# here, because every notebook that shows a result imports this package
kernel.watch()
