"""How the service's tables came about, one file a change; `SqlStore.open` applies what a database lacks."""
