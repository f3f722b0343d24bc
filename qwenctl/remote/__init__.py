"""Content behind the network: a client of the OCI distribution protocol.

transport    one request, one response; the only import of the HTTP library
challenge    what a 401 asks for
credentials  what the user has: Docker's config.json and its helpers
auth         challenge and credentials → a token, as a generator without I/O
retry        what is worth another try, and when
client       requests with authentication, redirects and retries
download     a reader that goes on where a connection broke
upload       one blob: mount, whole, or in chunks
repository   `Repository`, the Target over the rest
"""
