"""HTTP surfaces over the runner. Each door translates one public API to the `ModelHost` protocol and back.

Nothing here knows processes, sockets or stores: the runner passes itself in as host and mounts the routes.
"""
