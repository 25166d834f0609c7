"""The approval inbox: server-rendered pages on the loopback interface. Needs the extra `web`."""
