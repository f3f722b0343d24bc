"""The background service: one process per user that loads models into worker processes and lends them out.

    client      what a command or a program uses; starts the service when it must
    service     one life of the service: lock, sockets, signals, idle exit
    control     its own HTTP door (`/qwenctl/v1`); the public APIs are mounted beside it
    pool        which models are loaded, who works on them, who has to go
    supervisor  one worker process

Imports go upwards in that list's order only; `messages` is what client and service say to each other.
"""
