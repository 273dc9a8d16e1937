"""Where lines go that nobody watches: files, sockets, syslog. Each sink has a queue and a thread; none holds up the others."""
