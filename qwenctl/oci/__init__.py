"""The Open Container Initiative's vocabulary as pure values: no file, socket, process or clock here."""
