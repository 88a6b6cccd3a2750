"""Token ids in, token ids out: models, pods, attention and the decode loop.

Knows nothing of user files, SQL, pages or the page in the browser.
"""
