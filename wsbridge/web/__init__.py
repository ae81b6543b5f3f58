"""All other HTTP routes: health, operators, the client and the demo page; errors as problem documents."""
