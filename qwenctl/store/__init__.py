"""Content on disk: an OCI image layout that survives crashes and several processes at once.

disk     the few system calls that durability depends on, with their errors translated
layout   where things are; index.json read and replaced as a whole
ingest   the write session of one blob: reserve, resume, verify, publish
store    `Store`, the Target over the three
reach    everything under some roots
leases   what running pulls must find again
gc       what nothing refers to
catalog  the built-in registry
"""
