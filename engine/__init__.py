"""Token ids in, token ids out: models, pods, attention and the decode loop.

Knows nothing of user files, SQL, pages or the page in the browser.
"""

import os as _os

# Threads that wait for each other yield the processor after some microseconds instead of milliseconds: beside another
# busy program, reading is then slowed by its share and not twentyfold. OpenMP looks at this when torch is imported.
_os.environ.setdefault("GOMP_SPINCOUNT", "3000")
