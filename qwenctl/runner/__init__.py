"""The background service: one process per user that loads models into worker processes and lends them out.

    client      what a command or a program uses; starts the service when it must
    service     one life of the service: lock, sockets, signals, idle exit
    server      its HTTP side: the guard, our own door (`control`, `/qwenctl/v1`), the public APIs of `api`
    pool        which models are loaded and who works on them, a `slot` for each
    eviction    who has to go when another one comes
    supervisor  one worker process

Each uses the ones below it. Beside them: `messages`, what client and service say to each other; `models`,
where models come from; `configured`, what the user set for each; `ledger` and `totals`, what was asked;
`log`; `listen`, directory, lock and sockets.
"""
