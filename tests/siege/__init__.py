"""Good clients, bad peers of every kind and a full log, all at once against one real bridge: `make siege`."""
