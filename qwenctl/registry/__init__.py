"""The embedded registry: the OCI distribution protocol over stores, as an ASGI application.

    shelf      which repository and tag is which reference in which store
    uploads    upload sessions: what a chunk does to one
    answers    errors and pages as responses
    blobs      the end-points of content
    manifests  the end-points of manifests, tags and referrers
    app        the routes
    server     the application behind a socket

Source: OCI distribution-spec v1.1.1; the tests name the clauses.
"""
